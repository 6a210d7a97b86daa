// Where numbers come from: the server behind /api, or the folder that was exported.

import { known } from "app/token.js";

const LARGEST = 2 ** 24;
const HELD = 192 * 2 ** 20;
const held = new Map();
const coming = new Map();
let bytes = 0;
let revision = "";

/** A refusal of the server: what is wrong, what follows, what to do. */
export class Refusal extends Error {
  constructor(told, status = 0) {
    super(told.fact || "The server gave no answer.");
    this.told = told;
    this.status = status;
  }
}

/** Nobody answers at the server's address. */
export function silence() {
  return new Refusal({ fact: "The server does not answer.", consequence: "It was ended, or this machine has lost its way to it.", remedy: "start it again with the same command and port, then load this page again" });
}

/** JSON of a view or list: `json("activations", params)`. */
export async function json(path, params = new URLSearchParams(), { signal } = {}) {
  const text = await fetched(`/api/${path}${query(params)}`, signal);
  return JSON.parse(new TextDecoder().decode(text));
}

/** What there is to choose from; null where `known` is true and the stores are as they were when it was last read. */
export async function catalogue({ known: unchanged = false } = {}) {
  if (window.flowprofileExport) return unchanged ? null : json("catalogue");
  const answer = await answered("/api/catalogue", { headers: { ...known(), ...(unchanged ? { "If-None-Match": revision } : {}) } });
  if (answer.status === 304) return null;
  revision = answer.headers.get("ETag") ?? "";
  return answer.json();
}

/** Forget the blocks that are here: under a name that is computed anew, the last computed is meant. */
export function forget() {
  held.clear();
  bytes = 0;
}

/** The text of a table: `text("measures.csv", params)`. */
export async function text(path, params = new URLSearchParams()) {
  return new TextDecoder().decode(await fetched(`/api/${path}${query(params)}`));
}

/** Bytes behind a header of JSON, as `unpack` reads it: [header, data]. */
export async function framed(path, params, { signal } = {}) {
  const data = await fetched(`/api/${path}${query(params)}`, signal);
  const length = new DataView(data).getUint32(0, true);
  return [JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length))), new Uint8ClampedArray(data, 4 + length)];
}

/** Send JSON to the server; only where runs are allowed. */
export async function post(path, value, { signal } = {}) {
  const headers = { ...known(), "Content-Type": "application/json", "X-FlowProfile": "1" };
  return (await answered(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(value), signal })).json();
}

/** An answer that is read while it comes: the events of a run. */
export function stream(path, headers, signal) {
  return answered(`/api/${path}`, { headers: { ...known(), ...headers }, signal });
}

/** A block that is here already, or null. `channel` only for panels whose blocks are too large to travel whole. */
export function cached(panel, t, channel = null) {
  const key = keyOf(panel, t, channel);
  const found = held.get(key);
  if (found) {
    held.delete(key);
    held.set(key, found);
  }
  return found ?? null;
}

/** Blocks of a panel at some states, in one request for all that are not here, or a few for large ones; resolves to a
 *  list in their order. */
export async function blocks(panel, times, { channel = null, signal } = {}) {
  const missing = times.filter((t) => !cached(panel, t, channel) && !coming.has(keyOf(panel, t, channel)));
  const most = Math.max(1, Math.floor(LARGEST / (2 * panel.shape.slice(panel.whole ? 0 : -2).reduce((a, b) => a * b, 1))));
  for (let at = 0; at < missing.length; at += most) {
    const part = missing.slice(at, at + most);
    const params = new URLSearchParams(panel.block);
    for (const t of part) params.append("times", t);
    if (!panel.whole && channel !== null) params.append("channel", channel);
    const work = fetched(`/api/block?${params}`, signal).then((data) => unpack(data).forEach((each) => keep(panel, each, channel)));
    for (const t of part) coming.set(keyOf(panel, t, channel), work);
    work.catch(() => {}).finally(() => part.forEach((t) => coming.delete(keyOf(panel, t, channel))));
  }
  await Promise.all(times.map((t) => coming.get(keyOf(panel, t, channel))));
  return times.map((t) => cached(panel, t, channel));
}

/** Whether a state's block is on its way. */
export function isComing(panel, t, channel = null) {
  return coming.has(keyOf(panel, t, channel));
}

function keyOf(panel, t, channel) {
  return `${panel.block}|${t}|${panel.whole || channel === null ? "" : channel}`;
}

function keep(panel, block, channel) {
  held.set(keyOf(panel, block.t, channel), block);
  bytes += block.values.byteLength;
  for (const [key, old] of held) {
    if (bytes <= HELD) break;
    held.delete(key);
    bytes -= old.values.byteLength;
  }
}

/** The blocks of an answer, one for each state: half floats as their bits, with the shape after time.
 *  An exported folder gives several answers one after the other. */
export function unpack(data) {
  const found = [];
  for (let at = 0; at < data.byteLength;) {
    const length = new DataView(data).getUint32(at, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, at + 4, length)));
    const size = head.shape.reduce((a, b) => a * b, 1);
    at += 4 + length;
    for (const [i, t] of head.times.entries()) {
      // A copy, so that a state that is dropped frees its bytes.
      const values = new Uint16Array(data, at, size).slice();
      found.push({ t, shape: head.shape, scale: head.scales[i], missing: head.missing[t] ?? null, values });
      at += 2 * size;
    }
  }
  return found;
}

function query(params) {
  const text = params.toString();
  return text ? `?${text}` : "";
}

async function fetched(url, signal) {
  if (window.flowprofileExport) return window.flowprofileExport(url);
  return (await answered(url, { signal, headers: { ...known(), Accept: "application/json, application/octet-stream" } })).arrayBuffer();
}

async function answered(url, options) {
  const answer = await fetch(url, options).catch((error) => {
    throw error.name === "AbortError" ? error : silence();
  });
  if (!answer.ok && answer.status !== 304) throw new Refusal(await told(answer), answer.status);
  return answer;
}

async function told(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text);
  } catch {
    return { fact: text || `The server answered ${answer.status}.`, consequence: "", remedy: "", evidence: "" };
  }
}
