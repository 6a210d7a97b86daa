// Measures: every curve of a case beside its null, and beside all seeds of its label.

import { timeOf } from "app/controls.js";
import { make, notComputed, number, picker, save } from "app/dom.js";
import { barCard, curveCard, isCurve, numbersCard } from "app/curves.js";
import { among, kept, listed } from "app/notes.js";
import { sheet } from "app/sheet.js";
import { paramsOf } from "app/maps.js";
import { json, text } from "app/source.js";
import { read, set } from "app/state.js";

const LINES = 6;
const SHOWN = [["both", "value and excess"], ["value", "value"], ["excess", "excess over the null"]];

/** Open the view. */
export async function open(root, app) {
  const asked = paramsOf(read().params);
  asked.delete("layer");
  const told = await json("measures", asked);
  root.append(make("h2", {}, "Measures"), make("p", { class: "lead" },
    "Each curve of this seed beside its own null (the same noise, driven by a chain that knows the finished image) and beside all seeds of its label. 10 to 90 % of the seeds lie within the grey band or, where several lines are drawn, between dotted ones; a band in a line's colour is the interval of that line's mean. What the network does is the excess: the value minus the null, seed by seed, so 0 is what the noise does alone. The upright dotted line is the state t that is shown; a click on a curve moves it."));
  if (told.missing) {
    root.append(notComputed(told.missing, "No measure is stored in this run."));
    return { moves: ["time", "show", "layer"], move: () => {} };
  }
  const view = new Measures(told, app, asked);
  root.append(view.element);
  return view.handle();
}

class Measures {
  constructor(told, app, asked) {
    this.told = told;
    this.app = app;
    this.asked = asked;
    // What has a null comes first: of the others it is not known what the network does to them.
    this.here = told.measures.filter((measure) => !measure.missing).sort((a, b) => b.has_null - a.has_null);
    this.times = [...new Set(this.here.flatMap((measure) => measure.times))].sort((a, b) => b - a);
    const { seed } = told.case;
    const single = this.here.filter((measure) => !isCurve(measure));
    const numbers = single.filter((measure) => measure.lines.length === 1);
    this.cards = [
      ...this.here.filter(isCurve).map((measure) => curveCard(measure, seed, () => this.state(measure))),
      ...single.filter((measure) => measure.lines.length > 1).map((measure) => barCard(measure, seed)),
      ...(numbers.length ? [numbersCard(numbers, seed)] : []),
    ];
    this.element = make("div", {}, this.#tools(),
      this.cards.length ? make("div", { class: "plots" }, this.cards.map((card) => card.element)) : null,
      absent(told.measures.filter((measure) => measure.missing)));
  }

  handle() {
    return {
      words: this.#words(),
      times: this.times, moves: ["time", "show", "layer"],
      move: (changed) => this.app.busy(this.move(changed)),
      close: () => this.cards.forEach((card) => card.close()),
      python: () => this.#python(),
      png: async () => save("measures.png", await sheet(this.cards, this.#title())),
      csv: async () => save("measures.csv", await text("measures.csv", this.asked), "text/csv"),
    };
  }

  /** What an address may say of where the view stands. */
  #words() {
    const layers = this.#layers();
    const strange = { told: layers.length ? `There ${listed(layers)}; it is left out` : "No measure here has layers; it is left out" };
    return {
      time: kept(this.times, timeOf), show: among(SHOWN.map(([name]) => name), "value and excess are shown"),
      layer: (value) => (layers.includes(value) ? null : strange),
    };
  }

  #layers() {
    return [...new Set(this.here.flatMap((measure) => measure.lines.map((line) => line.key.layer)).filter(Boolean))];
  }

  /** What a card shows: the address decides. */
  state(measure) {
    const params = read().params;
    const wanted = params.getAll("layer");
    const chosen = measure.lines.filter((line) => wanted.includes(line.key.layer));
    return {
      t: timeOf(measure.times, new URLSearchParams({ time: timeOf(this.times, params) })),
      show: shownOf(params), first: this.times[0],
      lines: chosen.length ? chosen : measure.lines.slice(0, LINES),
    };
  }

  /** Only the line at t moves where nothing else changed. */
  async move(changed) {
    const params = read().params;
    const shown = this.element.querySelector("#show");
    if (shown) shown.value = shownOf(params);
    const onlyTime = this.drawn && changed.every((name) => name === "time" || name === "channel");
    await Promise.all(this.cards.map((card) => (onlyTime ? card.mark() : card.draw())));
    this.drawn = true;
  }

  #tools() {
    const layers = this.#layers();
    const several = layers.length > LINES;
    return make("div", { class: "options" },
      this.here.some((measure) => measure.has_null) ? picker("show", "Curves", SHOWN, shownOf(read().params), (show) => set({ show })) : null,
      several ? layerChoice(layers) : null);
  }

  #title() {
    const { label, caption, seed, intervention } = this.told.case;
    return `label ${label} (${caption}), seed ${seed}, ${intervention}`;
  }

  #python() {
    const rows = this.here.flatMap((measure) => this.state(measure).lines.flatMap((line) =>
      ["value", "null", "mean", "excess_mean"].filter((role) => line.series[role]).map((role) =>
        `${line.series[role].python}  # ${[measure.name, line.caption, role.replace("_", " ")].filter(Boolean).join(", ")}`)));
    return [this.told.python, ...rows].join("\n");
  }
}

/** Which curves an address means. */
function shownOf(params) {
  const asked = params.get("show");
  return SHOWN.some(([name]) => name === asked) ? asked : "both";
}

/** Measures that this sample lacks, together where the reason is one; what is never measured is nothing to mend. */
function absent(measures) {
  const reasons = new Map();
  for (const { name, why, command } of measures) {
    const found = reasons.get(why + command) ?? { names: [], why, command };
    found.names.push(name);
    reasons.set(why + command, found);
  }
  return [...reasons.values()].map(({ names, why, command }) => make("section", { "aria-label": "Not computed" },
    make("h3", {}, names.join(", ")), command ? notComputed(command, why) : make("p", { class: "never" }, why)));
}

/** Boxes for layers, folded; none ticked means the first few of each measure. */
function layerChoice(layers) {
  const chosen = read().params.getAll("layer");
  const boxes = layers.map((layer) => make("label", { class: "box" },
    make("input", { type: "checkbox", value: layer, checked: chosen.includes(layer), on: { change: () => set({ layer: boxes.filter((box) => box.firstChild.checked).map((box) => box.firstChild.value) }) } }), layer));
  return make("details", { class: "choice" },
    make("summary", {}, `Layers (${chosen.length ? number(chosen.length) : `first ${LINES}`} of ${layers.length})`),
    make("div", { class: "boxes", role: "group", "aria-label": "Layers that are drawn" }, boxes));
}
