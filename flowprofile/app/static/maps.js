// Maps side by side: up to six panels of one case that share time and channel.

import { channelOf, nearest, timeOf } from "app/controls.js";
import { make, notComputed, picker, save } from "app/dom.js";
import { picture, summed, weighted } from "app/half.js";
import { field, maskNamed, pixelsOf, resampled } from "app/masks.js";
import { among, below, kept, masked } from "app/notes.js";
import { reach, sampleOf, TITLES } from "app/images.js";
import { Panel, together } from "app/panel.js";
import { blocks, cached, isComing, json } from "app/source.js";
import { read, set } from "app/state.js";

const BESIDE = 60;
const COLOURS = [["", "one scale for all t"], ["each", "each picture its own"], ["log", "one scale, logarithmic"], ["clip", "each its own, clipped at 95 %"]];

/** Open a view of maps: panels as the server describes them, and what moves them. */
export async function openMaps(root, app, view, { tools = () => [], words = () => ({}), before = () => [], after = () => [], more = null } = {}) {
  const told = await json(view, paramsOf(read().params));
  const maps = new Maps(told, app, tools(told));
  if (told.missing) root.append(...before(told, maps), notComputed(told.missing, `Nothing of this is stored in this run.`));
  else root.append(...before(told, maps), maps.element, ...after(told, maps));
  return maps.handle(words(told), more);
}

/** The parameters the server is asked with: what moves in the browser is not among them. */
export function paramsOf(params) {
  const kept = new URLSearchParams();
  for (const [name, value] of params) if (!["time", "channel", "show", "mask", "colour"].includes(name)) kept.append(name, value);
  return kept;
}

class Maps {
  constructor(told, app, tools) {
    this.told = told;
    this.app = app;
    this.panels = told.panels.map((each) => new Panel(each));
    this.reference = told.reference ? new Panel({ ...told.reference, title: TITLES[told.reference.variable] ?? told.reference.title }) : null;
    this.limits = new Map();
    this.queued = null;
    this.waiting = null;
    this.image = app.run.model.shape?.slice(-2) ?? [1, 1];
    this.times = [...new Set(told.panels.flatMap((each) => each.times))].sort((a, b) => b - a);
    this.channels = Math.max(1, ...told.panels.map((each) => sizeOf(each)));
    this.element = make("div", {}, this.#tools(tools), make("div", { class: "panels" }, this.#all().map((panel) => panel.element)));
  }

  handle(words, more) {
    return {
      words: this.told.panels.length ? { ...this.#words(), ...words } : {},
      times: this.times, channels: this.channels, channelName: nameOf(this.told.panels),
      channelTold: (channel) => ({ one: `${channel} of ${this.channels}${this.#spot(channel)}`, sum: "all of them, summed" })[this.show(read().params)] ?? "each layer its own c*",
      moves: ["time", "channel", "show", "mask", "colour"],
      move: (changed) => this.move(changed).then(() => more?.move?.(changed)),
      close: () => { this.waiting?.abort(); clearTimeout(this.queued); more?.close?.(); },
      python: () => this.#python(),
      png: async () => save(`${this.told.view}.png`, await together(this.#all(), this.#title())),
      csv: () => save(`${this.told.view}.csv`, this.#csv(), "text/csv"),
    };
  }

  /** What an address may say of where the view stands. */
  #words() {
    const { regions } = this.told;
    return {
      time: kept(this.times, timeOf), channel: below(this.channels), show: among(this.shows().map(([name]) => name), "it is left out"),
      colour: among(COLOURS.map(([name]) => name).filter(Boolean), "one scale for all t is shown"),
      ...(regions ? { mask: masked(regions, this.image[0] * this.image[1]) } : {}),
    };
  }

  /** Where in the picture a token is that the slider chooses. */
  #spot(channel) {
    const [first] = this.told.panels;
    return first?.leading.length === 1 ? spotTold(first.leading[0], channel) : "";
  }

  #all() {
    return this.reference ? [this.reference, ...this.panels] : this.panels;
  }

  /** Draw what the address says. What is here is drawn at once; what is not is asked for, and only the latest drawn. */
  async move() {
    const params = read().params;
    const shown = this.element.querySelector("#show");
    if (shown) shown.value = this.show(params);
    const t = timeOf(this.times, params);
    this.waiting?.abort();
    clearTimeout(this.queued);
    const turn = (this.waiting = new AbortController());
    await this.app.busy(Promise.all(this.#all().map((panel) => this.#draw(panel, t, params, turn))).catch((error) => {
      if (error.name !== "AbortError") throw error;
    }));
    if (!turn.signal.aborted) this.queued = setTimeout(() => this.#beside(t, params), BESIDE);
  }

  async #draw(panel, wanted, params, turn) {
    const t = nearest(panel.told.times, wanted);
    const gone = panel.told.missing[t];
    if (gone !== undefined) return panel.miss(`The state t = ${t} is ${gone === 1 ? "missing" : "not asked for"}.`, this.#command(panel, t, gone));
    const channel = panel.told.whole ? null : this.#channel(panel, params);
    let block = cached(panel.told, t, channel);
    if (!block) {
      // What is on its way already is waited for; a request that nobody waits for is given up.
      const signal = isComing(panel.told, t, channel) ? undefined : turn.signal;
      [block] = await blocks(panel.told, [t], { channel, signal });
      if (turn.signal.aborted) return null;
    }
    if (!["each", "clip"].includes(colourOf(params)) && panel !== this.reference) await this.#range(panel, turn);
    if (turn.signal.aborted) return null;
    this.#paint(panel, block, t, params);
    return null;
  }

  #paint(panel, block, t, params) {
    const mask = this.mask(params);
    panel.outline(mask && field(mask, ...this.image), ...this.image);
    if (panel === this.reference) return panel.draw({ ...sampleOf(panel.told, block, 0), told: `t = ${t}` });
    const { values, told, channel } = this.#values(panel, block, t, params);
    if (panel.told.root) values.forEach((value, i) => (values[i] = Math.sqrt(Math.max(0, value))));
    const colour = colourOf(params);
    const fixed = ["", "log"].includes(colour) && this.limits.get(panel);
    const rooted = (value) => (panel.told.root ? Math.sqrt(Math.max(0, value)) : value);
    const range = fixed && (channel !== null || sizeOf(panel.told) === 1) ? { low: rooted(fixed.low[channel ?? 0]), high: rooted(fixed.high[channel ?? 0]) } : colour === "clip" ? clipped(values) : reach(values);
    panel.draw({ values, range, told, log: colour === "log" });
    return panel.note.replaceChildren(...this.#marks(panel, block, t, channel));
  }

  #values(panel, block, t, params) {
    const size = sizeOf(panel.told);
    const rows = pixelsIn(panel.told);
    const mask = maskNamed(panel.told, this.told.regions);
    const at = `${mask && !rows ? `; ${mask}` : ""}${t === timeOf(this.times, params) ? "" : `, nearest kept state t = ${t}`}`;
    if (size === 1) return { values: picture(block, 0), channel: null, told: `${panel.told.root ? "root of the " : ""}${panel.told.told}${at}` };
    const of = rows ? mask : null;
    if (this.show(params) === "sum" && panel.told.whole) {
      return { values: summed(block, rows), channel: null, told: `sum over ${of ?? `${size} ${plural(panel.told)}`}${rows ? ", own entries left out" : ""}${at}` };
    }
    const channel = this.#channel(panel, params, block, t);
    const place = panel.told.whole ? channel : 0;
    return { values: picture(block, place, rows && [rows[channel]]), channel, told: `${placeTold(panel.told, channel)} of ${of ?? size}${at}` };
  }

  /** The channel a panel shows: the slider's, or its own strongest one. */
  #channel(panel, params, block = null, t = null) {
    const size = sizeOf(panel.told);
    const show = this.show(params);
    const stored = this.told.marks?.find((mark) => show === `max:${mark.node}`);
    if (stored && t !== null) return this.#stored(stored, panel, t) ?? 0;
    if (show === "max:mask" && block && panel.told.whole) return this.strongest(panel, block, params) ?? 0;
    return channelOf(size, params);
  }

  /** The state a panel shows: the one of its own that is nearest to what the slider says. */
  #state(panel) {
    return nearest(panel.told.times, timeOf(this.times));
  }

  /** The strongest channel of a stage that is stored, at the nearest state it keeps. */
  #stored(mark, panel, t) {
    const channel = mark.layers[panel.told.title]?.[mark.times.indexOf(nearest(mark.times, t))];
    return channel >= 0 ? channel + conditional(panel.told) : null;
  }

  /** c* of the drawn mask, from the block that is here: nothing is sampled, nothing is asked. */
  strongest(panel, block, params) {
    const mask = this.mask(params);
    if (!mask) return null;
    const sums = weighted(block, resampled(field(mask, ...this.image), this.image, panel.size));
    const first = conditional(panel.told);
    return sums.subarray(first).reduce((best, value, i) => (value > sums[best] ? first + i : best), first);
  }

  /** How a panel's channel is chosen: as the address says, and where it says nothing, the strongest one that is stored. */
  show(params) {
    const asked = this.shows().find(([name]) => name === params.get("show"));
    if (asked || params.get("channel") !== null) return asked?.[0] ?? "one";
    const first = this.told.marks?.find((mark) => this.panels.some((panel) => panel.told.title in mark.layers));
    return first ? `max:${first.node}` : "sum";
  }

  /** What there is to show of many channels: [name in the address, in words]. */
  shows() {
    const { marks = [], regions } = this.told;
    const stored = marks.map((mark) => [`max:${mark.node}`, `${strongestIn(mark)} (${mark.node})`]);
    return [["one", "one channel"], ["sum", "sum over channels"], ...stored, ...(regions ? [["max:mask", "c* within the mask chosen here"]] : [])];
  }

  mask(params = read().params) {
    if (!this.told.regions) return null;
    return pixelsOf(params.get("mask"), this.told.regions, this.image[0] * this.image[1]);
  }

  #marks(panel, block, t, channel) {
    if (sizeOf(panel.told) < 2 || !this.told.marks) return [];
    const at = (mark) => (mark.times.includes(t) ? "" : ` at t = ${nearest(mark.times, t)}`);
    const rows = this.told.marks.map((mark) => [strongestIn(mark) + at(mark), this.#stored(mark, panel, t)]);
    if (panel.told.whole && this.mask()) rows.push(["c* within this mask", this.strongest(panel, block, read().params)]);
    return rows.filter(([, place]) => place !== null).map(([told, place]) => make("button", {
      type: "button", class: "mark", "aria-pressed": String(place === channel),
      on: { click: () => set({ channel: place, show: null }) },
    }, `${place === channel ? "★" : "☆"} ${told}: ${place - conditional(panel.told)}`));
  }

  async #range(panel, turn) {
    if (this.limits.has(panel)) return;
    const found = await json("limits", new URLSearchParams(panel.told.block), { signal: turn.signal });
    if (found.states) this.limits.set(panel, found);
  }

  /** Fetch the states on both sides, in one request a panel. */
  async #beside(t, params) {
    await Promise.all(this.#all().map(async (panel) => {
      const at = panel.told.times.indexOf(nearest(panel.told.times, t));
      const near = [at - 1, at + 1].map((i) => panel.told.times[i]).filter((each) => each !== undefined && panel.told.missing[each] === undefined);
      if (near.length) await blocks(panel.told, near, { channel: panel.told.whole ? null : this.#channel(panel, params) });
    })).catch(() => {});
  }

  #command(panel, t, gone) {
    if (gone === 1) return this.told.ensure;
    const parts = panel.told.node.split("/");
    const stage = (["measures", "gradients"].includes(parts[0]) ? parts[1] : parts[0]).replace(/\[.*/, "");
    return this.told.keep.replace("STAGE", stage).replace("T", t);
  }

  #tools(more) {
    const params = read().params;
    const regions = Object.keys(this.told.regions ?? {});
    const mask = params.get("mask") ?? "";
    const masks = [["", "none"], ...regions.map((name) => [name, name]), ...(mask && !regions.includes(mask) ? [[mask, "drawn"]] : [])];
    return make("div", { class: "options" }, more,
      this.channels > 1 ? picker("show", "Shown", this.shows(), this.show(params), (show) => set({ show })) : null,
      picker("colour", "Colours", COLOURS, colourOf(params), (colour) => set({ colour })),
      this.told.regions ? picker("mask", "Mask chosen here", masks, mask, (value) => set({ mask: value })) : null);
  }

  #title() {
    const { label, seed, intervention } = this.told.case;
    return `${this.told.run}, label ${label}, seed ${seed}, ${intervention}, t = ${timeOf(this.times)}`;
  }

  #python() {
    const params = read().params;
    const lines = this.panels.map((panel) => {
      const t = this.#state(panel);
      const block = cached(panel.told, t, panel.told.whole ? null : this.#channel(panel, params));
      const base = panel.told.python.replace("{time}", t);
      if (sizeOf(panel.told) === 1) return base;
      const names = panel.told.leading.map(({ name }) => name);
      if (this.show(params) === "sum") return `${base}.sum(${JSON.stringify(names)})`;
      const at = places(panel.told, this.#channel(panel, params, block, t));
      return `${base}.isel(${names.map((name, i) => `${name}=${at[i]}`).join(", ")})`;
    });
    return [this.told.open, ...lines].join("\n");
  }

  #csv() {
    const rows = ["layer,t,y,x,value"];
    for (const panel of this.panels) {
      const t = this.#state(panel);
      panel.values?.forEach((value, i) => rows.push([JSON.stringify(panel.told.title), t, Math.floor(i / panel.size[1]), i % panel.size[1], value].join(",")));
    }
    return rows.join("\n");
  }
}

/** How many pictures a state's block holds. */
export function sizeOf(told) {
  return told.leading.reduce((size, { size: each }) => size * each, 1);
}

/** Where the conditional half of a guided step begins in a block that holds both: c* is of that half. */
function conditional(told) {
  return told.leading[0]?.name === "guidance" ? sizeOf(told) - sizeOf(told) / told.leading[0].size : 0;
}

/** The scale of colours that an address means. */
function colourOf(params) {
  const asked = params.get("colour");
  return COLOURS.some(([name]) => name === asked) ? asked : "";
}

function strongestIn(mark) {
  const of = mark.statistic === "sum" ? "c*" : `c* by ${mark.statistic}`;
  return mark.mask === "everywhere" ? `${of} everywhere` : `${of} within ${mark.mask}`;
}

/** The own place of each row of a gradient volume; null for what has no rows. */
function pixelsIn(told) {
  const rows = told.leading.length === 1 && told.leading[0].places;
  return rows ? rows[0].map((y, i) => y * told.shape.at(-1) + rows[1][i]) : null;
}

function places(told, at) {
  const found = [];
  for (const { size } of [...told.leading].reverse()) {
    found.unshift(at % size);
    at = Math.floor(at / size);
  }
  return found;
}

function placeTold(told, channel) {
  return places(told, channel).map((at, i) => {
    const { name, values, places: where } = told.leading[i];
    return where ? `${name} at y ${where[0][at]}, x ${where[1][at]}` : `${name} ${values[at]}${spotTold(told.leading[i], at)}`;
  }).join(", ");
}

/** Where in the picture a token is, or which one of the text's behind them it is. */
function spotTold({ grid }, at) {
  if (!grid) return "";
  const own = grid[0] * grid[1];
  return at < own ? ` (y ${Math.floor(at / grid[1])}, x ${at % grid[1]})` : ` (the text's ${at - own})`;
}

function plural(told) {
  return told.leading.map(({ name }) => `${name}s`).join(" and ");
}

/** The range of all but the 5 % largest values: what stands out is clipped, so that the rest is seen. */
function clipped(values) {
  const sizes = Float32Array.from(values.filter((value) => !Number.isNaN(value)), Math.abs).sort();
  const far = sizes[Math.floor(0.95 * (sizes.length - 1))] || 1;
  const { low } = reach(values);
  return { low: low < 0 ? -far : Math.min(low, far), high: far };
}

function nameOf(panels) {
  const names = new Set(panels.flatMap((each) => each.leading.map(({ name }) => name)));
  return names.size === 1 ? [...names][0].replace(/^./, (c) => c.toUpperCase()) : "Channel";
}
