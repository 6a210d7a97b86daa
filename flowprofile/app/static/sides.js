// The sides of a comparison as controls: what each has different from the first.

import { make } from "app/dom.js";
import { read, set } from "app/state.js";

const MOST = 4;

/** A side in a few words: its number, and what it is. */
export function sideTold(told, i) {
  const side = told.sides[i];
  const first = told.sides[0];
  const parts = [["label", side.caption === `label ${side.label}` ? side.caption : `label ${side.label} (${side.caption})`], ["seed", `seed ${side.seed}`], ["intervention", side.intervention === "none" ? "clean" : side.title], ["run", side.run], ["store", side.store]];
  const differs = parts.filter(([name]) => !i || side[name] !== first[name]).filter(([name, words]) => words && (i || ["label", "seed", "intervention"].includes(name)));
  return `Side ${i + 1}: ${differs.map(([, words]) => words).join(", ") || "the same case"}`;
}

/** Controls for every side but the first, and a button for one more. */
export function drawSides(told, app) {
  const boxes = told.sides.slice(1).map((side, i) => sideBox(told, side, i, app));
  const more = told.sides.length < MOST ? make("button", { type: "button", on: { click: () => write([...told.sides.slice(1), next(told, app)], told) } }, "Add a side") : null;
  return make("div", { class: "sides" },
    make("p", { class: "side-first" }, make("strong", {}, sideTold(told, 0)), " (chosen above)"), boxes, more);
}

function sideBox(told, side, i, app) {
  const changed = (changes) => write(told.sides.slice(1).map((each, j) => (j === i ? { ...each, ...changes } : each)), told);
  const run = side.store ? null : app.catalogue.runs.find((each) => each.name === side.run);
  const choose = (name, label, options, value, does) => {
    const select = make("select", { id: `${name}-${i}`, on: { change: () => does(select.value) } }, options.map(([each, words]) => make("option", { value: each }, words)));
    select.value = value;
    return make("label", { class: "control" }, make("span", {}, label), select);
  };
  const typed = (name, label, value, kind) => {
    const input = make("input", { id: `${name}-${i}`, type: kind, value, on: { change: () => changed({ [name]: input.value }) } });
    return make("label", { class: "control" }, make("span", {}, label), input);
  };
  const others = app.catalogue.others ?? [];
  return make("fieldset", { class: "side" }, make("legend", {}, sideTold(told, i + 1)), make("div", { class: "options" },
    others.length ? choose("store", "Store", [["", "this one"], ...others.map((name) => [name, name])], side.store, (store) => changed({ store, run: null })) : null,
    !side.store && app.catalogue.runs.length > 1 ? choose("run", "Run", app.catalogue.runs.map(({ name }) => [name, name]), side.run, (name) => changed({ run: name })) : null,
    run ? choose("label", "Label", run.labels.map(({ label, told: words }) => [label, words === `label ${label}` ? words : `${label}: ${words}`]), side.label, (label) => changed({ label })) : typed("label", "Label", side.label, "number"),
    run && run.interventions.length < 2 ? null : run ? choose("intervention", "Intervention", run.interventions.map(({ name, title }) => [name, name === "none" ? "none (clean)" : title]), side.intervention, (intervention) => changed({ intervention })) : typed("intervention", "Intervention", side.intervention, "text"),
    typed("seed", "Seed", side.seed, "number"),
    told.sides.length > 2 ? make("button", { type: "button", "aria-label": `Remove side ${i + 2}`, on: { click: () => write(told.sides.slice(1).filter((_, j) => j !== i), told) } }, "Remove") : null));
}

/** One more side: another label than all that are there, or another seed. */
function next(told, app) {
  const first = told.sides[0];
  const used = told.sides.map(({ label }) => label);
  const label = app.run.labels.map((each) => each.label).find((each) => !used.includes(each));
  if (label !== undefined) return { ...first, label };
  const seeds = told.sides.map(({ seed }) => seed);
  let seed = app.run.seeds[0][0];
  while (seeds.includes(seed)) seed += 1;
  return { ...first, seed };
}

/** Write the sides into the address: each says only what it has different from the first. */
function write(sides, told) {
  const first = told.sides[0];
  set({ side: sides.map((side) => {
    const own = new URLSearchParams();
    for (const name of ["store", "run", "intervention", "label", "seed"]) {
      if (side[name] === null || side[name] === undefined || side[name] === "") continue;
      if (String(side[name]) !== String(first[name])) own.set(name, side[name]);
    }
    return own.toString() || `seed=${first.seed}`;
  }), time: read().params.get("time") });
}
