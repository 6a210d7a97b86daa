// The sides of a comparison as controls: what each has different from the first.

import { caseControls, hasSeed } from "app/controls.js";
import { make, picker } from "app/dom.js";
import { read, set } from "app/state.js";

const MOST = 4;

/** A side in a few words: its number, and what it is. */
export function sideTold(told, i) {
  const side = told.sides[i];
  const first = told.sides[0];
  const parts = [["label", side.caption === `label ${side.label}` ? side.caption : `label ${side.label} (${side.caption})`], ["seed", `seed ${side.seed}`], ["intervention", side.intervention === "none" ? "clean" : side.title], ["run", `run ${side.run}`], ["store", side.store && `store ${side.store}`]];
  const differs = parts.filter(([name]) => !i || side[name] !== first[name]).filter(([name, words]) => words && (i || ["label", "seed", "intervention"].includes(name)));
  // Whether noise is shared decides what may be read off a difference, so a seed is said even where it is the same.
  const shared = i && differs.length && side.seed === first.seed ? [`seed ${side.seed}`] : [];
  return `Side ${i + 1}: ${[...differs.map(([, words]) => words), ...shared].join(", ") || "the same case"}`;
}

/** Controls for every side but the first, and a button for one more. */
export function drawSides(told, app) {
  const boxes = told.sides.slice(1).map((side, i) => sideBox(told, side, i, app));
  const more = told.sides.length < MOST ? make("button", { type: "button", on: { click: () => write([...told.sides.slice(1), next(told, app)], told, app) } }, "Add a side") : null;
  return make("div", { class: "sides" },
    make("p", { class: "side-first" }, make("strong", {}, sideTold(told, 0)), " (chosen above)"), boxes, more);
}

function sideBox(told, side, i, app) {
  const changed = (changes) => write(told.sides.slice(1).map((each, j) => (j === i ? { ...each, ...changes } : each)), told, app);
  const runs = runsOf(app, side.store);
  const run = runs.find(({ name }) => name === side.run) ?? runs[0];
  const others = [["", "this one"], ...app.catalogue.others.map(({ name }) => [name, name])];
  return make("fieldset", { class: "side" }, make("legend", {}, sideTold(told, i + 1)), make("div", { class: "options" },
    others.length > 1 ? picker(`store-${i}`, "Store", others, side.store, (store) => changed(fitting({ ...side, store }, store ? runsOf(app, store)[0] : app.run))) : null,
    runs.length > 1 ? picker(`run-${i}`, "Run", runs.map(({ name }) => [name, name]), run.name, (name) => changed(fitting(side, runs.find((each) => each.name === name)))) : null,
    caseControls(run, side, changed, `-${i}`),
    told.sides.length > 2 ? make("button", { type: "button", "aria-label": `Remove side ${i + 2}`, on: { click: () => write(told.sides.slice(1).filter((_, j) => j !== i), told, app) } }, "Remove") : null));
}

function runsOf(app, store) {
  return store ? app.catalogue.others.find(({ name }) => name === store).runs : app.catalogue.runs;
}

/** A side in another run: its own case where the run has it, else the first of what it lacks. */
function fitting(side, run) {
  const { labels, interventions, seeds } = run;
  const clean = interventions.find(({ name }) => name === "none") ?? interventions[0];
  return {
    ...side, run: run.name,
    label: labels.some(({ label }) => label === side.label) ? side.label : labels[0].label,
    intervention: interventions.some(({ name }) => name === side.intervention) ? side.intervention : clean.name,
    seed: hasSeed(run, side.seed) ? side.seed : seeds[0][0],
  };
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
function write(sides, told, app) {
  const first = told.sides[0];
  set({ side: sides.map((side) => {
    const own = new URLSearchParams();
    // Without a word the run is the first side's, and in another store the first that is there.
    const usual = { ...first, run: side.store ? runsOf(app, side.store)[0].name : first.run };
    for (const name of ["store", "run", "intervention", "label", "seed"]) if (String(side[name]) !== String(usual[name])) own.set(name, side[name]);
    return own.toString() || `seed=${first.seed}`;
  }), time: read().params.get("time") });
}
