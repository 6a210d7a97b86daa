// A run while it runs: how far, how fast, what it said; the same in every tab, and after the page is loaded again.

import { make, say } from "app/dom.js";
import { json, post } from "app/source.js";
import { address } from "app/state.js";
import { kindOf, viewOf } from "app/run/draft.js";
import { hear } from "app/run/events.js";
import { refused } from "app/run/planned.js";
import { bytes, count, counted, duration } from "app/run/texts.js";

const ENDS = ["done", "stopped", "refused", "failed"];

/** The panel of one run; `ended` is called with its last event, `again` starts its definition anew. */
export function watch(app, job, { ended, again }) {
  const bar = make("progress", { "aria-label": "How far the run is", max: 1 });
  const told = make("p", { class: "sum" }, "Starting.");
  const log = make("ol", { class: "log", role: "log", "aria-label": "What the run said", tabindex: "0" });
  const cancel = make("button", { type: "button", on: { click: () => stop() } }, "Cancel");
  const end = make("div", {});
  const silent = make("p", { class: "note", role: "status" });
  const element = make("section", { class: "job", "aria-labelledby": `job-${job.id}`, dataset: { job: job.id } },
    make("h3", { id: `job-${job.id}` }, `Run ${job.id}`), silent, bar, told, cancel, end, make("details", {}, make("summary", {}, "What it said"), log));
  // What the plan said, from the first moment to the last: a run that steers by its own means counts in two parts.
  const total = job.plan.forwards + job.plan.means;

  /** True at the last event. */
  function heard(event) {
    const last = ENDS.includes(event.event);
    element.dataset.state = last ? event.event : "running";
    SAYS[event.event]?.(event);
    if (!last) return false;
    cancel.remove();
    finish(event);
    ended(event);
    return true;
  }

  function lost() {
    silent.textContent = "The server does not answer; how far the run is by now is not known. Asking again until it does.";
    element.dataset.state = "lost";
    cancel.disabled = true;
  }

  function found() {
    silent.textContent = "";
    element.dataset.state = "running";
    cancel.disabled = false;
  }

  function gone(error) {
    silent.textContent = "";
    heard({ event: "failed", ...error.told });
  }

  const SAYS = {
    planned(event) {
      note(`${counted(event.forwards, "forward")} in ${counted(event.tasks, "task")}`);
    },
    progress(event) {
      const share = total ? Math.min(1, event.forwards / total) : null;
      if (share !== null) bar.value = share;
      told.textContent = line(event, share, total);
    },
    task(event) {
      if (!total) bar.value = event.index / event.tasks;
      note(`task ${count(event.index)} of ${count(event.tasks)} is stored`);
    },
    noticed: (event) => note(event.text),
  };

  function note(text) {
    log.append(make("li", {}, text));
    log.scrollTop = log.scrollHeight;
  }

  async function stop() {
    cancel.disabled = true;
    cancel.textContent = "Stopping…";
    try {
      await post(`jobs/${encodeURIComponent(job.id)}/cancel`, {});
    } catch (error) {
      end.replaceChildren(refused(error));
    }
  }

  function finish(event) {
    bar.value = event.event === "done" ? 1 : bar.value;
    const outcome = {
      done: () => [make("p", {}, event.regions ? `Done: ${counted(event.forwards, "forward")}, ${counted(event.regions, "region")}, ${bytes(event.bytes)} in ${duration(event.seconds)}.` : "Done: the store held all of it already."), results(app, job)],
      stopped: () => [make("p", {}, "Stopped. What it had stored stays; only the rest is computed when it goes on."), goOn()],
      refused: () => [refused({ told: event }), goOn()],
      failed: () => [refused({ told: event }), goOn()],
    }[event.event]();
    told.textContent = "";
    end.replaceChildren(...outcome);
    say(`Run ${job.id}: ${event.event}.`);
  }

  function goOn() {
    return make("button", { type: "button", on: { click: () => again(job.definition) } }, "Go on");
  }

  return { element, close: hear(job, { heard, lost, found, gone }) };
}

function line(event, share, total) {
  const left = share > 0 && share < 1 ? `, ${duration((event.seconds * (1 - share)) / share)} left` : "";
  const at = event.t === null ? "" : `, t = ${event.t}`;
  const forwards = total ? `${count(Math.min(event.forwards, total))} of ${count(total)} forwards` : event.stage;
  return `${forwards}${at}; ${counted(event.regions, "region")}, ${bytes(event.bytes)} stored; ${duration(event.seconds)}${left}`;
}

/** Links to what a run made: the case it made, in every view that shows one of its stages. */
function results(app, job) {
  const { run, seed, label, intervention } = job.plan.shows;
  const params = new URLSearchParams({ intervention, label, seed });
  const known = app.catalogue.runs.find(({ name }) => name === run || run.startsWith(`${name}@`));
  if (known && app.catalogue.runs.length > 1) params.set("run", known.name);
  const views = [...new Set(["sample", ...Object.entries(job.definition.stages).map(([name, stage]) => viewOf(kindOf(name, stage)))])];
  return make("p", { class: "results" }, "See it: ", views.map((view, i) => [i ? ", " : "", make("a", { href: address(view, params) }, view)]).flat());
}

/** Every run since the server started, newest first. */
export async function jobs() {
  return (await json("jobs")).reverse();
}
