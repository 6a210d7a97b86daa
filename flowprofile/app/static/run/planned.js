// What a definition would compute, before it does: counted by the server while one types.

import { code, make } from "app/dom.js";
import { post } from "app/source.js";
import { bytes, count, counted, duration } from "app/run/texts.js";

const PAUSE = 350;

/** A refusal as text: what is wrong, what follows, what to do, what was seen. */
export function refused(error) {
  const told = error.told ?? { fact: String(error.message ?? error) };
  return make("div", { class: "refusal", role: "alert" }, make("p", {}, make("strong", {}, told.fact)), told.consequence ? make("p", {}, told.consequence) : null,
    told.remedy ? make("p", {}, make("strong", {}, "To mend it: "), told.remedy) : null, told.evidence ? make("p", {}, make("strong", {}, "Seen: "), told.evidence) : null);
}

/** Whether the store holds all of it. */
export function nothing(plan) {
  return !plan.forwards && !plan.means && !plan.cases;
}

/** How much it would be, in one line. */
export function summary(plan) {
  if (nothing(plan)) return "The store holds all of it already: nothing to compute.";
  const time = plan.seconds === null ? "not timed on this machine yet" : duration(plan.seconds);
  return `${counted(plan.forwards + plan.means, "forward")}, ${bytes(plan.disk)} to store, ${time}.`;
}

/** The panel of a plan; `planned` is called with every new plan, and with null while there is none. */
export function planPanel(app, planned) {
  const sum = make("p", { class: "sum", "aria-live": "polite" }, "Counting…");
  const body = make("div", {});
  const element = make("section", { class: "plan", "aria-labelledby": "plan-title" }, make("h3", { id: "plan-title" }, "Plan"), sum, body);
  let waiting = null;
  let settle = () => {};
  let turn = 0;
  let asking = new AbortController();

  async function ask(definition) {
    const mine = (turn += 1);
    try {
      const plan = await post("plan", { definition }, asking);
      if (mine === turn) show(plan);
    } catch (error) {
      if (mine === turn) show(null, error);
    }
  }

  function show(plan, error) {
    sum.textContent = error ? "Nothing can be computed so." : summary(plan);
    body.replaceChildren(error ? refused(error) : drawn(plan));
    planned(plan);
  }

  return {
    element,
    /** Ask for the plan of a definition, a moment after the last change. */
    ask(definition) {
      clearTimeout(waiting);
      settle();
      turn += 1;
      asking.abort(); // The server then need not work it out before the next one.
      asking = new AbortController();
      planned(null);
      return app.busy(new Promise((settled) => {
        settle = settled;
        waiting = setTimeout(() => ask(definition).finally(settled), PAUSE);
      }));
    },
  };
}

function drawn(plan) {
  const sampled = plan.forwards && !plan.sampled && !plan.means ? "Nothing is sampled: stored states are looked at again." : null;
  return make("div", {},
    nothing(plan) ? null : make("dl", {}, entry("Forwards", `${count(plan.forwards)} (and ${count(plan.padding)} padding)`), entry("of these, steps of sampling", count(plan.sampled)),
      plan.means ? entry("before them, for means to steer by", count(plan.means)) : null,
      entry("Cases", count(plan.cases)), entry("To store", bytes(plan.disk)), entry("Memory", bytes(plan.memory)),
      entry("Time", plan.seconds === null ? "not timed on this machine yet" : duration(plan.seconds))),
    nothing(plan) ? null : make("p", { class: "told" }, "A forward is one picture through the network, once; padding fills batches up."),
    sampled ? make("p", { class: "told" }, sampled) : null,
    Object.entries(plan.warnings).map(([name, text]) => make("p", { class: "note" }, make("strong", {}, `${name}: `), text)),
    make("details", {}, make("summary", {}, "Stage by stage"), stages(plan.stages)),
    make("details", {}, make("summary", {}, "The definition as a file"), make("p", { class: "told" }, "Kept in a file it runs with: flowprofile run FILE --into STORE"), code(plan.toml)));
}

function entry(name, value) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value));
}

function stages(shares) {
  const cells = (tag, values) => values.map((value) => make(tag, tag === "th" ? { scope: "col" } : {}, value));
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "The plan, stage by stage" }, make("table", {},
    make("thead", {}, make("tr", {}, cells("th", ["Stage", "State", "Cells", "Forwards", "To store"]))),
    make("tbody", {}, Object.entries(shares).map(([name, share]) => [
      make("tr", {}, make("th", { scope: "row" }, name), cells("td", [share.state, count(share.cells), count(share.forwards), bytes(share.disk)])),
      share.why ? make("tr", { class: "why" }, make("td", { colspan: 5 }, share.why)) : null,
    ].filter(Boolean)).flat())));
}
