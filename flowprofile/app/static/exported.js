// The exported folder in the server's place: answers lie in scripts beside the page, which are loaded when asked for.

import { csvOf, tableOf } from "app/cases.js";
import { Refusal } from "app/source.js";

const HELD = 128 * 2 ** 20;
const CASE = ["run", "intervention", "label", "seed"];
const packs = new Map();
const waiting = new Map();
let bytes = 0;

window.flowprofileData = (name, text) => waiting.get(name)(text);
window.flowprofileExport = answer;
// Here an address is behind the "#", where the skip link would put its own.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("view").focus();
});
const index = pack("index").then((data) => JSON.parse(new TextDecoder().decode(data)));

/** What the server would answer to an address; what the folder holds one by one is put together here. */
export async function answer(url) {
  const [path, query] = url.replace(/^\/api\//, "").split("?");
  const params = new URLSearchParams(query ?? "");
  const taken = (name) => {
    const values = [...new Set(params.getAll(name))];
    params.delete(name);
    return values;
  };
  if (path === "block") {
    const [channel] = taken("channel");
    return joined(await Promise.all(taken("times").map((t) => part(path, params, channel === undefined ? t : `${t}/${channel}`))));
  }
  if (path === "compare") return encoded(await sides(params, taken("object"), taken("side")));
  if (path === "compare.csv") return joined(await tables(params, taken("object"), taken("side")));
  if (path === "thumbnails") return pictures(params, taken("seeds").flatMap((seeds) => seeds.split(",")));
  if (path.startsWith("sweep")) {
    const found = tableOf(decoded(await part("sweep", new URLSearchParams())), params);
    return path === "sweep" ? encoded(found) : new TextEncoder().encode(csvOf(found)).buffer;
  }
  const layers = taken("layer");
  return layers.length ? encoded(await sideBySide(path, params, layers)) : joined([await part(path, params)]);
}

/** A view with chosen layers: of each the folder has what it changes, and its panel. */
async function sideBySide(path, params, layers) {
  const base = decoded(await part(path, params));
  const each = await Promise.all(layers.map(async (layer) => decoded(await part(path, added(params, "layer", layer)))));
  return { ...base, ...each[0], panels: each.flatMap(({ panels }) => panels) };
}

/** A comparison with several sides, perhaps by another object's pictures. */
async function sides(params, [object], others) {
  const each = await Promise.all((others.length ? others : [null]).map(async (side) => {
    const asked = await besides(params, side);
    const told = decoded(await part("compare", asked));
    asked.delete("excess");
    return object ? { ...told, ...decoded(await part("compare", added(asked, "object", object))) } : told;
  }));
  const [first] = each;
  return {
    ...first, sides: [first.sides[0], ...each.map((told) => told.sides[1])],
    panels: first.panels.length ? [first.panels[0], ...each.map((told) => told.panels[1])] : [],
    times: first.times.filter((t) => each.every((told) => told.times.includes(t))),
    pairs: each.map((told, i) => ({ ...told.pairs[0], sides: [0, i + 1] })),
  };
}

/** Small pictures below each other behind one header, as the server sends them. */
async function pictures(params, seeds) {
  const each = await Promise.all(seeds.map((seed) => part("thumbnails", added(params, "seed", seed))));
  const ends = each.map((data) => 4 + new DataView(data.buffer, data.byteOffset).getUint32(0, true));
  const told = { ...decoded(each[0].subarray(4, ends[0])), count: seeds.length };
  const head = new TextEncoder().encode(JSON.stringify(told));
  const start = new Uint8Array(4 + head.length);
  new DataView(start.buffer).setUint32(0, head.length, true);
  start.set(head, 4);
  return joined([start, ...each.map((data, i) => data.subarray(ends[i]))]);
}

async function tables(params, _, others) {
  const each = await Promise.all((others.length ? others : [null]).map(async (side) => part("compare.csv", await besides(params, side))));
  return each.map((data, i) => (i ? data.subarray(data.indexOf(10) + 1) : data));
}

/** Parameters with a side, said by what it has different from the case. */
async function besides(params, side) {
  if (side === null) return new URLSearchParams(params);
  const { defaults } = await index;
  const own = [...new URLSearchParams(side)].filter(([name, value]) => value !== (params.get(name) ?? defaults[name]));
  return added(params, "side", JSON.stringify(own.sort(byName)));
}

function added(params, name, value) {
  return new URLSearchParams([...params, [name, value]]);
}

function byName([a], [b]) {
  return a < b ? -1 : Number(a > b);
}

async function part(path, params, name = "") {
  const { answers, defaults, cases, store } = await index;
  const pairs = [...params];
  if (path !== "catalogue") for (const axis of CASE) if (!params.has(axis)) pairs.push([axis, defaults[axis]]);
  const key = JSON.stringify([path, ...pairs.sort(byName)]);
  const found = answers[key] ?? {};
  const [file, from, to] = found[name] ?? found.refused ?? [];
  if (file === undefined) {
    throw new Refusal({
      fact: "This is not in the exported folder.", consequence: `It was made with ${cases} case${cases === 1 ? "" : "s"} of the store, and shows these.`,
      remedy: `look at the store itself: flowprofile app ${store}`, evidence: `${key} ${name}`,
    });
  }
  const data = (await pack(String(file))).subarray(from, to);
  if (!(name in found)) throw new Refusal(decoded(data));
  return data;
}

/** The bytes of one file; the latest used are kept. */
function pack(name) {
  const known = packs.get(name);
  if (known) {
    packs.delete(name);
    packs.set(name, known);
    return known;
  }
  const loading = loaded(name).then(unzipped).then((data) => {
    bytes += data.byteLength;
    release(name);
    return data;
  });
  loading.catch(() => packs.delete(name));
  packs.set(name, loading);
  return loading;
}

async function release(latest) {
  for (const [name, old] of packs) {
    if (bytes <= HELD) return;
    if (name === latest || name === "index") continue;
    packs.delete(name);
    bytes -= (await old).byteLength;
  }
}

function loaded(name) {
  return new Promise((done, failed) => {
    const script = document.createElement("script");
    waiting.set(name, done);
    script.src = `data/${name}.js`;
    script.onerror = () => failed(new Error(`The file data/${name}.js is missing from this folder.`));
    script.onload = () => {
      waiting.delete(name);
      script.remove();
    };
    document.head.append(script);
  });
}

async function unzipped(text) {
  const raw = atob(text);
  const packed = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) packed[i] = raw.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((size, each) => size + each.byteLength, 0));
  let at = 0;
  for (const each of parts) {
    whole.set(each, at);
    at += each.byteLength;
  }
  return whole.buffer;
}

function decoded(data) {
  return JSON.parse(new TextDecoder().decode(data));
}

function encoded(value) {
  return new TextEncoder().encode(JSON.stringify(value)).buffer;
}
