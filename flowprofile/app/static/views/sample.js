// The sample on its way from noise to image, what the network believes it to be, and the mask one draws on it.

import { drawMaskTools } from "app/brush.js";
import { paintImage } from "app/colour.js";
import { timeOf } from "app/controls.js";
import { make, notComputed, number, save } from "app/dom.js";
import { planesOf, TITLES } from "app/images.js";
import { paramsOf } from "app/maps.js";
import { Panel, together } from "app/panel.js";
import { blocks, cached, json } from "app/source.js";
import { read, set } from "app/state.js";

const STRIP = 21;

/** Open the view. */
export async function open(root, app) {
  const told = await json("sample", paramsOf(read().params));
  root.append(make("h2", {}, "Sample"));
  if (told.missing) {
    root.append(notComputed(told.missing, "No state of a sample is stored in this run."));
    return { moves: ["time", "mask"], move: () => {} };
  }
  const view = new Sample(told, app);
  root.append(view.element);
  return view.handle();
}

class Sample {
  constructor(told, app) {
    this.told = told;
    this.app = app;
    this.panels = told.panels.filter((each) => each.image).map((each) => new Panel({ ...each, title: TITLES[each.variable] ?? each.title }));
    this.times = this.panels[0].told.times;
    this.strips = this.panels.map((panel) => strip(panel));
    this.brush = drawMaskTools(this.panels[0], told.regions ?? {});
    this.element = make("div", { class: "sample" },
      make("div", {}, this.panels[0].element, this.brush.element),
      make("div", {}, this.panels.slice(1).map((panel) => panel.element),
        this.panels.map((panel, i) => make("section", {}, make("h3", {}, `${panel.told.title}, from noise to image`), this.strips[i].element))));
  }

  handle() {
    return {
      times: this.times, moves: ["time", "mask"],
      move: () => this.move(), close: () => this.waiting?.abort(),
      python: () => [this.told.open, ...this.panels.map((panel) => panel.told.python.replace("{time}", timeOf(panel.told.times)))].join("\n"),
      png: async () => save("sample.png", await together(this.panels, `${this.told.run}, label ${this.told.case.label}, seed ${this.told.case.seed}, t = ${timeOf(this.times)}`)),
      csv: () => save("sample.csv", this.#csv(), "text/csv"),
    };
  }

  async move() {
    const params = read().params;
    this.waiting?.abort();
    const turn = (this.waiting = new AbortController());
    this.brush.show(params.get("mask"));
    await this.app.busy(Promise.all(this.panels.map((panel, i) => this.#draw(panel, i, turn))).catch((error) => {
      if (error.name !== "AbortError") throw error;
    }));
  }

  async #draw(panel, i, turn) {
    const t = timeOf(panel.told.times, new URLSearchParams({ time: timeOf(this.times) }));
    const gone = panel.told.missing[t];
    this.strips[i].mark(t);
    if (gone !== undefined) return panel.miss(`The state t = ${t} is not stored.`, this.told.ensure);
    const [block] = cached(panel.told, t) ? [cached(panel.told, t)] : await blocks(panel.told, [t], { signal: turn.signal });
    if (turn.signal.aborted) return null;
    panel.draw({ ...planesOf(block), range: panel.told.range, told: `${panel.told.told}, t = ${t}` });
    return this.strips[i].fill(this.app);
  }

  #csv() {
    const rows = ["object,t,channel,y,x,value"];
    for (const panel of this.panels) {
      const t = timeOf(panel.told.times, new URLSearchParams({ time: timeOf(this.times) }));
      (panel.values ?? []).forEach((plane, c) => plane.forEach((v, at) => rows.push([panel.told.variable, t, c, Math.floor(at / panel.size[1]), at % panel.size[1], v].join(","))));
    }
    return rows.join("\n");
  }
}

/** Small pictures of up to 21 kept states; a click goes there. All of them come in one request. */
function strip(panel) {
  const all = panel.told.times.filter((t) => panel.told.missing[t] === undefined);
  const count = Math.min(STRIP, all.length);
  const times = Array.from({ length: count }, (_, i) => all[Math.round((i * (all.length - 1)) / Math.max(1, count - 1))]);
  const buttons = new Map(times.map((t) => [t, make("button", { type: "button", "aria-label": `t = ${t}`, on: { click: () => set({ time: t }) } }, make("canvas", { "aria-hidden": "true" }), `t = ${number(t)}`)]));
  let filled = false;
  return {
    element: make("div", { class: "strip" }, [...buttons.values()]),
    mark: (now) => buttons.forEach((button, t) => button.setAttribute("aria-pressed", String(t === now))),
    fill: async () => {
      if (filled) return;
      filled = true;
      const found = await blocks(panel.told, times);
      found.forEach((block, i) => block && paintImage(buttons.get(times[i]).querySelector("canvas"), planesOf(block).planes, ...panel.size, panel.told.range));
    },
  };
}
