// Compare: two to four cases side by side, what differs between them, and from which state on.

import { channelOf, timeOf } from "app/controls.js";
import { make, picker, save } from "app/dom.js";
import { paramsOf, sizeOf } from "app/maps.js";
import { among, below, kept } from "app/notes.js";
import { together } from "app/panel.js";
import { pairCard } from "app/parting.js";
import { drawSides, sideTold } from "app/sides.js";
import { Side, spread } from "app/beside.js";
import { sheet } from "app/sheet.js";
import { json, text } from "app/source.js";
import { read, set } from "app/state.js";

const MOVES = ["time", "channel", "delta"];

/** Open the view. */
export async function open(root, app) {
  const asked = paramsOf(read().params);
  asked.delete("delta");
  const told = await json("compare", asked);
  const view = new Compare(told, app, asked);
  root.append(make("h2", {}, "Compare"), make("p", { class: "lead" }, `${shared(told.sides)} The first side is the one chosen above; the others differ from it as they say.`),
  drawSides(told, app), view.element);
  return view.handle();
}

class Compare {
  constructor(told, app, asked) {
    this.told = told;
    this.app = app;
    this.asked = asked;
    this.sides = told.panels.map((panel, i) => new Side(panel, told.sides[i], i ? told.panels[0] : null, sideTold(told, i)));
    this.channels = told.panels.length && !told.panels[0].image ? sizeOf(told.panels[0]) : 1;
    this.cards = told.pairs.map((pair) => pairCard(told, pair, () => this.t()));
    this.element = make("div", {}, this.#tools(),
      told.panels.length ? make("div", {}, pictures(this.sides), make("p", { class: "key" }, "Every difference has a scale of its own at every state, centred at 0."))
        : make("p", {}, "The sides have no object of one shape in common, so there are no pictures to show beside each other."),
      make("h3", {}, "How far apart, and from when on"), make("div", { class: "plots" }, this.cards.map((card) => card.element)));
  }

  t() {
    return timeOf(this.told.times);
  }

  handle() {
    return {
      words: this.#words(),
      times: this.told.times, channels: this.channels, channelName: "Channel", moves: MOVES,
      move: (changed) => this.move(changed),
      close: () => { this.turn?.abort(); this.cards.forEach((card) => card.close()); },
      python: () => this.#python(),
      png: () => this.#png(),
      csv: async () => save("compare.csv", await text("compare.csv", this.asked), "text/csv"),
    };
  }

  /** What an address may say of where the view stands. */
  #words() {
    const deltas = [...new Set(this.told.pairs.flatMap(({ onsets }) => onsets ?? []).map(({ delta }) => String(delta)))];
    return {
      time: kept(this.told.times, timeOf), ...(this.told.panels.length ? { channel: below(this.channels) } : {}),
      ...(deltas.length ? { delta: among(deltas, "the first that is claimed is shaded, or the first") } : {}),
      excess: among(["1"], "the distance itself is shown"),
    };
  }

  /** Draw all sides at one state and channel on one scale, then what each has different from the first. */
  async move(changed) {
    this.turn?.abort();
    const turn = (this.turn = new AbortController());
    const only = this.drawn && changed.every((name) => name === "time" || name === "channel");
    await this.app.busy(Promise.all([this.#pictures(turn), ...this.cards.map((card) => (only ? card.mark() : card.draw()))]).catch((error) => {
      if (error.name !== "AbortError") throw error;
    }));
    this.drawn = true;
  }

  async #pictures(turn) {
    if (!this.sides.length) return;
    const [t, channel] = [this.t(), channelOf(this.channels)];
    const planes = await Promise.all(this.sides.map((side) => side.planes(t, channel, turn.signal)));
    if (turn.signal.aborted) return;
    this.range ??= await spread(this.told.panels);
    if (turn.signal.aborted) return;
    const reach = this.told.panels[0].image ? null : { low: this.range.low[channel] ?? 0, high: this.range.high[channel] ?? 0 };
    this.sides.forEach((side, i) => side.draw(planes[i], reach, t, channel, this.channels));
    const differences = this.sides.slice(1).map((side, i) => side.apart(planes[i + 1], planes[0]));
    this.sides.slice(1).forEach((side, i) => side.drawApart(differences[i], t));
  }

  #tools() {
    const { objects, object, measures } = this.told;
    const params = read().params;
    const layers = this.told.layers ?? [];
    return make("div", { class: "options" },
      objects.length > 1 ? picker("object", "Pictures of", objects.map((name) => [name, name.replace(":", ", ")]), object, (value) => set({ object: value, channel: null })) : null,
      picker("measure", "Distance by", measures.map((name) => [name, name]), params.get("measure") ?? "ssim", (measure) => set({ measure, layer: null })),
      layers.length > 1 ? picker("layer", "Layer", layers.map((name) => [name, name]), params.get("layer") ?? layers[0], (layer) => set({ layer })) : null,
      picker("excess", "Interval and onset of", [["", "the distance"], ["1", "its excess over the null"]], params.get("excess") === "1" ? "1" : "", (excess) => set({ excess })));
  }

  #python() {
    const open = new Set(["import flowprofile as fp"]);
    const lines = this.told.pairs.filter((pair) => pair.python).map((pair) => pair.python);
    this.told.sides.forEach((side, i) => {
      open.add(`${name(i)} = fp.open(${JSON.stringify(side.url)}, run=${JSON.stringify(side.run)})`);
      if (this.told.panels[i]) lines.push(this.told.panels[i].python.replace(/^tree/, name(i)).replace("{time}", this.t()));
    });
    return [...open, ...lines].join("\n");
  }

  async #png() {
    const pictures = this.sides.flatMap((side, i) => (i ? [side.panel, side.difference] : [side.panel]));
    if (pictures.length) save("compare.png", await together(pictures, `t = ${this.t()}`));
    return save("compare-curves.png", await sheet(this.cards, `How far apart, t = ${this.t()}`));
  }
}

/** What may be read off a difference: it depends on whether the sides share their noise. */
function shared([first, ...others]) {
  const strange = others.map((side, i) => (side.seed === first.seed ? null : i + 2)).filter(Boolean);
  if (!strange.length) return "Samples of one seed share all their noise, so what differs between them is what the label or the intervention does.";
  const which = `${strange.length > 1 ? "Sides" : "Side"} ${strange.join(" and ")} ${strange.length > 1 ? "are" : "is"} of another seed and ${strange.length > 1 ? "share" : "shares"} no noise with side 1: they differ by chance, too, and nothing of it can be put down to a label or an intervention alone.`;
  return strange.length < others.length ? `${which} The others share all of side 1's noise.` : which;
}

/** Sides in one row; of more than two each difference below its side. */
function pictures(sides) {
  const own = sides.map((side) => side.panel.element);
  const apart = sides.slice(1).map((side) => side.difference.element);
  const row = (elements) => make("div", { class: "panels" }, elements);
  return sides.length > 2 ? make("div", {}, row(own), row([make("div"), ...apart])) : row([...own, ...apart]);
}

function name(i) {
  return `side_${i + 1}`;
}
