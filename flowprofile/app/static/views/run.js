// Settings and runs: every setting of a definition as a form, its plan while one types, and the run itself.

import { make, picker, say } from "app/dom.js";
import { catalogue, json, post } from "app/source.js";
import { read, set } from "app/state.js";
import { changed, changesOf, fits } from "app/run/address.js";
import { drafted, freeName, kindOf, newStage } from "app/run/draft.js";
import { table } from "app/run/fields.js";
import { drawnMask, maskTold } from "app/run/mask.js";
import { nothing, planPanel, refused } from "app/run/planned.js";
import { jobs, watch } from "app/run/watch.js";

const QUICK = ["max_channel", "layer_gradients", "gradient_sum", "gradient_volume"];
/** What was entered stays while the page is open, so that one can go and draw a mask. */
let kept = null;

/** Open the view. */
export async function open(root, app) {
  root.append(make("h2", {}, "Run"));
  if (!app.catalogue.runs_allowed) {
    root.append(make("p", { class: "refusal" }, "This server only shows what is stored. To compute from the page, start it with --allow-run."));
    return { noCase: true };
  }
  const form = await json("form");
  const { draft, wrong } = begun(drafted(form.base), read().params);
  const told = draft.model === form.base.model ? form : await json("form", modelled(draft.model));
  const view = shown(app, told, await jobs(), draft, wrong);
  root.append(view.element);
  view.plan();
  return {
    noCase: true, moves: ["set", "unset"], move: () => view.say(), get notes() { return view.notes; },
    renew: () => view.renew(), close: () => view.close(),
  };
}

/** What the form begins with: what the address says, else what was entered before, else what was asked for last. */
function begun(base, params) {
  if (!params.has("set") && !params.has("unset")) return { draft: kept ?? base, wrong: [] };
  const found = changed(base, params);
  kept = found.draft;
  return found;
}

/** The form; an address may hold what no field can show. */
function shown(app, form, all, draft, wrong) {
  try {
    return new Run(app, form, all, draft, wrong);
  } catch (error) {
    console.warn(error);
    kept = null;
    return new Run(app, form, all, drafted(form.base), ["The address holds settings that no field can show; what this store was asked for last is shown."]);
  }
}

function modelled(model) {
  return model ? new URLSearchParams({ model }) : new URLSearchParams();
}

class Run {
  constructor(app, form, all, draft, wrong) {
    this.app = app;
    this.form = form;
    this.mask = drawnMask(read().params.get("mask"));
    this.draft = draft;
    this.strange = wrong;
    this.planPanel = planPanel(app, (plan) => this.planned(plan));
    this.go = make("button", { type: "button", class: "main", disabled: true, on: { click: () => this.start(this.draft) } }, "Run");
    this.wrong = make("div", {});
    this.watching = make("div", { class: "jobs" });
    this.fields = make("form", { class: "settings", "aria-label": "Settings", on: { submit: (event) => event.preventDefault() } });
    this.element = make("div", { class: "run" }, this.fields, make("div", { class: "beside" }, this.planPanel.element, make("p", {}, this.go), this.wrong, this.watching));
    this.job = null;
    this.draw();
    if (all.length) this.follow(all[0]);
  }

  close() {
    this.job?.close();
  }

  get about() {
    return { ...this.form.model, drawn: this.mask };
  }

  /** Note a change, and ask what it would cost. */
  change(changes) {
    this.draft = { ...this.draft, ...changes };
    for (const [name, value] of Object.entries(changes)) if (value === undefined) delete this.draft[name];
    kept = this.draft;
    this.strange = [];
    this.say();
    this.plan();
  }

  /** Write into the address what is different from what the store was asked for last. */
  say() {
    this.changes = changesOf(drafted(this.form.base), this.draft);
    const { set: values, unset } = fits(this.changes) ? this.changes : { set: null, unset: null };
    set({ set: values, unset });
    this.app.tell();
  }

  /** Lines above the view. */
  get notes() {
    const long = this.changes && !fits(this.changes) ? ["This form is too long for an address: keep the definition as a file, from below the plan."] : [];
    return [...this.strange, ...long];
  }

  plan() {
    return this.planPanel.ask(this.draft);
  }

  planned(plan) {
    this.ready = plan !== null;
    this.go.disabled = !this.ready || this.running;
    // Where nothing is to be computed a run still says which version a plain name means: it may be pressed, and is not urged.
    this.go.classList.toggle("main", this.ready && !nothing(plan));
  }

  async reset() {
    kept = null;
    this.form = await json("form");
    this.draft = drafted(this.form.base);
    this.strange = [];
    this.say();
    this.draw();
    this.plan();
  }

  /** Draw the whole form: after a stage came or went, and when another model is chosen. */
  draw() {
    const [model, ...groups] = this.form.groups;
    const parts = [
      make("p", { class: "lead" }, "Begins with what this store was asked for last, and with what the address changes of it. Only what is missing is computed."),
      this.mask ? this.quick() : null,
      this.group(model, true), ...groups.filter(({ name }) => name !== "numerics").map((group) => this.group(group, group.name === "cases")),
      this.tables("stages", this.form.stages), this.tables("interventions", this.form.interventions),
      ...groups.filter(({ name }) => name === "numerics").map((group) => this.group(group, false)),
      make("p", {}, make("button", { type: "button", on: { click: () => this.app.busy(this.reset()) } }, "Begin again")),
    ];
    this.fields.replaceChildren(...parts.filter(Boolean));
  }

  group(group, open) {
    const value = group.name ? this.draft[group.name] : this.draft;
    const changed = (next) => {
      if (group.name) return this.change({ [group.name]: next });
      const model = next.model !== this.draft.model;
      this.change({ model: next.model, compat: next.compat });
      return model ? this.app.busy(this.remodel()) : null;
    };
    return make("details", { class: "group", open, dataset: { group: group.name || "model" } }, make("summary", {}, group.title), group.help ? make("p", { class: "help" }, group.help) : null, ...table(group.fields, value, changed, this.about));
  }

  /** Another model has other labels and layers. */
  async remodel() {
    this.form = await json("form", modelled(this.draft.model));
    this.draw();
  }

  /** Stages or interventions: each a table of its own, and a way to add one. */
  tables(name, told) {
    const written = this.draft[name] ?? {};
    const kinds = new Map(told.kinds.map((kind) => [kind.name, kind]));
    const add = picker(`add-${name}`, "Add", told.kinds.map((kind) => [kind.name, `${kind.title}: ${kind.help}`]), told.kinds[0].name, () => {});
    return make("section", { class: "tables", dataset: { tables: name } }, make("h3", {}, told.title), make("p", { class: "help" }, told.help),
      ...Object.entries(written).map(([title, value]) => this.one(name, title, value, kinds)),
      make("div", { class: "row" }, add, make("button", { type: "button", on: { click: () => this.add(name, kinds.get(add.querySelector("select").value)) } }, "Add")));
  }

  one(name, title, value, kinds) {
    const use = name === "stages" ? kindOf(title, value) : value.kind;
    const kind = kinds.get(use);
    const put = (next) => this.change({ [name]: { ...this.draft[name], [title]: next } });
    const away = make("button", { type: "button", on: { click: () => this.takeAway(name, title) } }, `Take ${title} away`);
    const fields = kind ? table(this.specs(kind, title), value, put, this.about) : [make("p", { class: "help" }, "Made on the command line; it is kept as it is.")];
    return make("details", { class: "group", open: title === this.opened, dataset: { table: title } }, make("summary", {}, title === use ? title : `${title} (${use})`), kind?.help ? make("p", { class: "help" }, kind.help) : null, ...fields, away);
  }

  /** The fields of a kind; where it can read other stages than it usually does, these too. */
  specs(kind, title) {
    if (!kind.elsewhere) return kind.fields;
    const others = Object.keys(this.draft.stages).filter((name) => name !== title).join(", ");
    return [{ name: "needs", title: "Reads", kind: "texts", default: kind.needs.join(", "), help: `names of stages: ${others}` }, ...kind.fields];
  }

  add(name, kind, mask = null) {
    const taken = this.draft[name] ?? {};
    const title = freeName(kind.name, taken);
    this.opened = title;
    const value = name === "stages" ? newStage(kind, this.draft, mask ?? (kind.fields.some((field) => field.name === "mask" && field.required) ? this.mask : null)) : { kind: kind.name };
    this.change({ [name]: { ...taken, [title]: value } });
    this.draw();
    this.fields.querySelector(`[data-table="${CSS.escape(title)}"] summary`)?.focus();
  }

  takeAway(name, title) {
    const { [title]: gone, ...rest } = this.draft[name];
    this.change({ [name]: Object.keys(rest).length || name === "stages" ? rest : undefined });
    this.draw();
    say(`${title} is taken away.`);
  }

  /** What is usually asked of a mask that was just drawn. */
  quick() {
    const kinds = QUICK.map((name) => this.form.stages.kinds.find((kind) => kind.name === name)).filter((kind) => this.about.layers.length || !kind.fields.some((field) => field.name === "layers"));
    return make("fieldset", { class: "quick" }, make("legend", {}, `Mask: ${maskTold(this.mask)}`), make("p", { class: "help" }, "Nothing is sampled again for a mask where the trajectory keeps the states before (before = true)."),
      make("div", { class: "row" }, kinds.map((kind) => make("button", { type: "button", title: kind.help, on: { click: () => this.add("stages", kind, this.mask) } }, `Add ${kind.title.toLowerCase()}`))));
  }

  async start(definition) {
    this.go.disabled = true;
    this.wrong.replaceChildren();
    try {
      this.follow(await this.app.busy(post("jobs", { definition })));
    } catch (error) {
      this.wrong.replaceChildren(refused(error));
      this.go.disabled = !this.ready;
    }
  }

  follow(job) {
    this.job?.close();
    this.running = ["running", "stopping"].includes(job.state);
    this.go.disabled = true;
    this.job = watch(this.app, job, {
      ended: () => this.app.busy(this.ended()),
      again: (definition) => this.start(definition),
    });
    this.watching.replaceChildren(this.job.element);
  }

  /** What was entered stays; what it costs may be another. */
  renew() {
    const { runs } = this.app.catalogue;
    this.app.run = runs.find(({ name }) => name === this.app.run.name) ?? runs[0];
    return this.plan();
  }

  /** The store has grown: what there is to choose from is read anew, and the plan too. */
  async ended() {
    this.running = false;
    try {
      this.app.catalogue = await catalogue();
      this.renew();
    } catch (error) {
      this.wrong.replaceChildren(refused(error));
    }
  }
}
