// The sample on its way from noise to image, what the network believes it to be, and the mask one draws on it.

import { drawMaskTools } from "app/brush.js";
import { paint, paintImage, scale } from "app/colour.js";
import { channelOf, nearest, timeOf } from "app/controls.js";
import { make, notComputed, number, save } from "app/dom.js";
import { sampleOf, TITLES } from "app/images.js";
import { paramsOf, sizeOf } from "app/maps.js";
import { field, pixelsOf } from "app/masks.js";
import { below, kept, masked } from "app/notes.js";
import { Panel, together } from "app/panel.js";
import { blocks, cached, json } from "app/source.js";
import { read, set } from "app/state.js";

const STRIP = 21;
const STRIP_BYTES = 2 ** 24;

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
    this.panels = told.panels.map((each) => new Panel({ ...each, title: TITLES[each.variable] ?? each.title }));
    this.times = this.panels.reduce((most, { told: { times } }) => (times.length > most.length ? times : most), []);
    this.channels = Math.max(1, ...told.panels.filter((each) => !each.image).map(sizeOf));
    const columns = columnsOf(this.panels, this.times.filter((t) => this.panels.some((panel) => isStored(panel, t))));
    this.strips = this.panels.map((panel) => strip(panel, columns));
    // A mask is of the states' own pixels, which those of a decoded image are not.
    const drawnOn = this.panels.find((panel) => panel.size.join() === app.run.model.shape.slice(-2).join()) ?? this.panels[0];
    this.brush = drawMaskTools(drawnOn, told.regions ?? {});
    this.element = make("div", { class: "sample" },
      make("div", {}, drawnOn.element, this.brush.element),
      make("div", {}, make("div", { class: "beside" }, this.panels.filter((panel) => panel !== drawnOn).map((panel) => panel.element)),
        this.panels.map((panel, i) => make("section", {}, make("h3", {}, `${panel.told.title}, from noise to image`), this.strips[i].element))));
  }

  handle() {
    const [height, width] = this.app.run.model.shape.slice(-2);
    return {
      words: { time: kept(this.times, timeOf), channel: below(this.channels), mask: masked(this.told.regions ?? {}, height * width) },
      times: this.times, channels: this.channels, channelName: "Latent channel", moves: ["time", "channel", "mask"],
      move: () => this.move(), close: () => this.waiting?.abort(),
      python: () => [this.told.open, ...this.panels.map((panel) => panel.told.python.replace("{time}", nearest(panel.told.times, timeOf(this.times))))].join("\n"),
      png: async () => save("sample.png", await together(this.panels, `${this.told.run}, label ${this.told.case.label}, seed ${this.told.case.seed}, t = ${timeOf(this.times)}`)),
      csv: () => save("sample.csv", this.#csv(), "text/csv"),
    };
  }

  async move() {
    const params = read().params;
    this.waiting?.abort();
    const turn = (this.waiting = new AbortController());
    this.brush.show(params.get("mask"));
    this.#outline(params.get("mask"));
    await this.app.busy(Promise.all(this.panels.map((panel, i) => this.#draw(panel, i, turn))).catch((error) => {
      if (error.name !== "AbortError") throw error;
    }));
  }

  /** The mask on every panel of its own pixels; the one that is drawn on has it from the brush. */
  #outline(text) {
    const [height, width] = this.app.run.model.shape.slice(-2);
    const chosen = pixelsOf(text, this.told.regions ?? {}, height * width);
    for (const panel of this.panels) if (panel.size.join() === [height, width].join()) panel.outline(chosen && field(chosen, height, width), height, width);
  }

  async #draw(panel, i, turn) {
    const t = nearest(panel.told.times, timeOf(this.times));
    const gone = panel.told.missing[t];
    this.strips[i].mark(t);
    if (gone !== undefined) return panel.miss(`The state t = ${t} is not stored.`, this.told.ensure);
    const [block] = cached(panel.told, t) ? [cached(panel.told, t)] : await blocks(panel.told, [t], { signal: turn.signal });
    if (turn.signal.aborted) return null;
    const channel = channelOf(this.channels);
    const of = panel.told.image ? "" : `, channel ${channel} of ${sizeOf(panel.told)}`;
    panel.draw({ ...sampleOf(panel.told, block, channel), told: `${panel.told.told}, t = ${t}${of}` });
    return this.strips[i].fill(channel);
  }

  #csv() {
    const rows = ["object,t,channel,y,x,value"];
    for (const panel of this.panels) {
      const t = nearest(panel.told.times, timeOf(this.times));
      (panel.told.image ? panel.values ?? [] : [panel.values ?? []]).forEach((plane, c) => plane.forEach((v, at) => rows.push([panel.told.variable, t, c, Math.floor(at / panel.size[1]), at % panel.size[1], v].join(","))));
    }
    return rows.join("\n");
  }
}

function isStored({ told }, t) {
  return told.times.includes(t) && told.missing[t] === undefined;
}

/** Up to 21 states, fewer of large pictures: the same for every strip, so that what stands below each other is of one state. */
function columnsOf(panels, all) {
  const most = ({ told }) => Math.max(2, Math.floor(STRIP_BYTES / (2 * told.shape.reduce((a, b) => a * b))));
  const count = Math.min(STRIP, all.length, ...panels.map(most));
  return Array.from({ length: count }, (_, i) => all[Math.round((i * (all.length - 1)) / Math.max(1, count - 1))]);
}

/** Small pictures of these states; a click goes there. They come in one request. A state that is not kept leaves a gap. */
function strip(panel, shared) {
  const { told } = panel;
  const own = told.times.filter((t) => isStored(panel, t));
  // Objects that hardly keep a state in common each have columns of their own.
  const columns = 2 * shared.filter((t) => own.includes(t)).length < Math.min(shared.length, own.length) ? columnsOf([panel], own) : shared;
  const times = columns.filter((t) => own.includes(t));
  const buttons = new Map(times.map((t) => [t, make("button", { type: "button", "aria-label": `t = ${t}`, on: { click: () => set({ time: t }) } }, make("canvas", { "aria-hidden": "true" }), `t = ${number(t)}`)]));
  let filled = null;
  return {
    element: make("div", { class: "strip" }, columns.map((t) => buttons.get(t) ?? make("span", { class: "gap" }, `t = ${number(t)}`, make("br"), "not stored"))),
    mark: (now) => buttons.forEach((button, t) => button.setAttribute("aria-pressed", String(t === now))),
    fill: async (channel) => {
      const wanted = told.image ? "colours" : channel;
      if (filled === wanted) return;
      filled = wanted;
      (await blocks(told, times)).forEach((block, i) => block && small(buttons.get(times[i]).querySelector("canvas"), sampleOf(told, block, channel), panel.size));
    },
  };
}

function small(canvas, { planes, values, range }, size) {
  if (planes) paintImage(canvas, planes, ...size, range);
  else paint(canvas, values, ...size, scale(range.low, range.high));
}
