// Sweep: every computed case as a row, with its picture and what its curves come to; sorted by any column.

import { interventionNames, labelNames } from "app/controls.js";
import { make, notComputed, picker, save } from "app/dom.js";
import { Thumbnails } from "app/thumbnails.js";
import { paramsOf } from "app/maps.js";
import { json, text } from "app/source.js";
import { address, read, set } from "app/state.js";

const ROWS = 50;
const ACTED = 3;
const MOVES = ["sort", "order", "offset", "only", "column"];
/** Of where other views stand: the table is of all cases. */
const ELSEWHERE = ["intervention", "label", "seed"];
const CASE = ["run", "intervention", "label", "seed", "time"];

/** Open the view. */
export async function open(root, app) {
  const view = new Sweep(app);
  root.append(make("h2", {}, "Sweep"), make("p", { class: "lead" },
    "Every case that is computed, with its finished sample and what its curves come to: numbers to find cases by, of which none is a score. A column's button sorts all cases by it; a row opens its case."), view.element);
  await view.load();
  return view.handle();
}

class Sweep {
  constructor(app) {
    this.app = app;
    this.element = make("div", {});
    this.thumbnails = new Thumbnails(app.run.name);
  }

  handle() {
    const view = this;
    return {
      words: { limit: (value) => (value === String(ROWS) ? null : { told: `A page of the table has ${ROWS} rows` }) }, get notes() { return view.told?.notes ?? []; },
      noCase: true, moves: MOVES, move: (changed) => this.app.busy(this.move(changed)),
      close: () => this.turn?.abort(), python: () => this.#python(),
      csv: async () => save("sweep.csv", await text("sweep.csv", this.asked()), "text/csv"),
    };
  }

  /** What the server is asked. */
  asked() {
    const asked = new URLSearchParams();
    for (const [name, value] of paramsOf(read().params)) if (!ELSEWHERE.includes(name)) asked.append(name, value);
    asked.set("limit", ROWS);
    return asked;
  }

  /** Read anew and draw; the control that was used keeps the focus. */
  async move(changed) {
    if (!changed.some((name) => MOVES.includes(name))) return;
    await this.load();
  }

  async load() {
    this.turn?.abort();
    const turn = (this.turn = new AbortController());
    const found = await json("sweep", this.asked(), { signal: turn.signal }).catch((error) => {
      if (error.name !== "AbortError") throw error;
      return null;
    });
    if (!found || turn.signal.aborted) return;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.id : "";
    this.told = found;
    this.element.replaceChildren(...this.#drawn());
    if (focused) document.getElementById(focused)?.focus();
    await this.thumbnails.fill(this.element, turn.signal);
  }

  #drawn() {
    if (this.told.missing) return [notComputed(this.told.missing, "No case of this run is computed.")];
    return [this.#filters(), this.#paging(), make("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Table of cases" }, this.#table())];
  }

  #filters() {
    const only = Object.fromEntries(read().params.getAll("only").map((each) => [each.slice(0, each.indexOf("=")), each.slice(each.indexOf("=") + 1)]));
    const choose = (axis, value) => set({ offset: null, only: Object.entries({ ...only, [axis]: value }).filter(([, each]) => each !== "").map(([name, each]) => `${name}=${each}`) });
    const { labels, interventions } = this.app.run;
    const all = (name) => [["", `all ${name}`]];
    return make("div", { class: "options" },
      labels.length > 1 ? picker("only-label", "Label", [...all("labels"), ...labelNames(this.app.run)], only.label ?? "", (value) => choose("label", value)) : null,
      interventions.length > 1 ? picker("only-intervention", "Intervention", [...all("interventions"), ...interventionNames(this.app.run)], only.intervention ?? "", (value) => choose("intervention", value)) : null,
      this.#columns());
  }

  /** Boxes for columns, folded. */
  #columns() {
    const chosen = this.told.columns.map(({ name }) => name);
    const boxes = this.told.offered.map(({ name, title }) => make("label", { class: "box" }, make("input", {
      type: "checkbox", id: `column-${name}`, value: name, checked: chosen.includes(name),
      disabled: !chosen.includes(name) && chosen.length >= this.told.most,
      on: { change: () => { this.unfolded = true; set({ column: boxes.filter((box) => box.firstChild.checked).map((box) => box.firstChild.value) }); } },
    }), title));
    return make("details", { class: "choice", open: this.unfolded }, make("summary", {}, `Columns (${chosen.length} of ${this.told.offered.length}, at most ${this.told.most})`),
      make("div", { class: "boxes", role: "group", "aria-label": "Columns of the table" }, boxes));
  }

  #paging() {
    const { offset, cases, rows, note } = this.told;
    const turn = (id, words, to, possible) => make("button", { type: "button", id, disabled: !possible, on: { click: () => set({ offset: to || null }) } }, words);
    return make("div", { class: "paging" },
      turn("previous", "Previous", Math.max(0, offset - ROWS), offset > 0),
      make("span", { role: "status" }, rows.length ? `Cases ${(offset + 1).toLocaleString("en")} to ${(offset + rows.length).toLocaleString("en")} of ${cases.toLocaleString("en")}${note ? ` (${note})` : ""}` : "No computed case fits."),
      turn("next", "Next", offset + ROWS, offset + ROWS < cases));
  }

  #table() {
    const several = this.app.run.interventions.length > 1;
    const heads = [
      ...(several ? [this.#head("intervention", "Intervention", "")] : []), this.#head("label", "Label", ""), this.#head("seed", "Seed", ""),
      ...this.told.columns.map((column) => this.#head(column.name, column.title, column.unit === "1" ? column.what : `${column.what}, ${column.unit}`, column.told)),
    ];
    return make("table", { class: "cases" }, make("caption", {}, `–: never measured of such a case. A wide table scrolls sideways.${this.#acted()}`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Sample"), heads)),
      make("tbody", {}, this.told.rows.map((row) => this.#row(row, several))));
  }

  /** What was done, of interventions that have a name of somebody's own; of many the pointer tells. */
  #acted() {
    const shown = new Set(this.told.rows.map(({ intervention }) => intervention));
    const own = this.app.run.interventions.filter(({ name, title }) => name !== "none" && title !== name && shown.has(name));
    return own.slice(0, ACTED).map(({ name, title }) => ` ${title}: ${name}.`).join("");
  }

  #head(name, title, unit, told = title) {
    const { sort, order } = this.told;
    const now = sort === name;
    const next = now && order === "asc" ? "desc" : "asc";
    const button = make("button", { type: "button", id: `sort-${name}`, class: now ? "sorted" : null, title: told, on: { click: () => set({ sort: name, order: next, offset: null }) } },
      `${title}${now ? (order === "asc" ? "\u00a0▲" : "\u00a0▼") : ""}`);
    return make("th", { scope: "col", class: unit ? "figure" : null, "aria-sort": now ? (order === "asc" ? "ascending" : "descending") : "none" }, button, unit ? make("div", { class: "told" }, unit) : null);
  }

  #row(row, several) {
    const params = new URLSearchParams();
    const kept = read().params;
    for (const name of CASE) params.set(name, row[name] ?? kept.get(name) ?? "");
    params.set("time", 0);
    for (const name of CASE) if (params.get(name) === "") params.delete(name);
    const gone = Object.fromEntries([...kept.keys()].map((name) => [name, null]));
    const go = (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      set({ ...gone, ...Object.fromEntries(params) }, { view: "sample", push: true });
    };
    const told = row.caption === `label ${row.label}` ? row.caption : `${row.label}: ${row.caption}`;
    const link = make("a", { href: address("sample", params), on: { click: (event) => { event.stopPropagation(); go(event); } } }, `seed ${row.seed}`);
    const { title } = this.app.run.interventions.find(({ name }) => name === row.intervention) ?? { title: row.intervention };
    return make("tr", { on: { click: go } },
      make("td", {}, make("canvas", { class: "thumbnail", role: "img", "aria-label": `Sample of ${told}, seed ${row.seed}`, dataset: { intervention: row.intervention, label: row.label, seed: row.seed } })),
      several ? make("td", { class: "acted", title: row.intervention }, row.intervention === "none" ? "none (clean)" : title) : null, make("td", { class: "words" }, told), make("td", {}, link),
      row.values.map((value, i) => make("td", { class: "figure" }, value !== null ? figure(value) : row.never[i] ? "–" : "not computed")));
  }

  #python() {
    return [this.told.python, ...this.told.columns.map(({ python, title }) => `${python}  # ${title}`)].join("\n");
  }
}

/** A number of a column: five digits, so that points stand below each other. */
function figure(value) {
  const small = value !== 0 && Math.abs(value) < 1e-3;
  return (small || Math.abs(value) >= 1e5 ? value.toExponential(3) : value.toPrecision(5)).replaceAll("-", "−");
}
