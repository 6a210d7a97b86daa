// The controls above every view: which case, which state, which channel.

import { make, picker, say } from "app/dom.js";
import { wholeOf } from "app/notes.js";
import { read, set } from "app/state.js";

const form = document.getElementById("controls");
form.addEventListener("submit", (event) => event.preventDefault());
const HALF_WAY = 500;
let drawn = "";
let playing = null;

/** Draw the controls, or only move them where nothing else changed. */
export function drawControls(app) {
  const { view, params } = read();
  const handle = app.handle ?? {};
  const shape = JSON.stringify([view, app.run.name, app.catalogue.runs.length, handle.times?.length, handle.channels, handle.noCase, app.run.seeds, app.run.labels.length, app.run.interventions.length]);
  if (shape !== drawn) {
    form.replaceChildren(...(handle.noCase ? runPicker(app) : [...runPicker(app), ...casePickers(app)]), ...timeSlider(app), ...channelSlider(app));
    drawn = shape;
  }
  settle(app, params);
}

/** The kept state the address means, or the nearest one; half way where it means none, the same in every view. */
export function timeOf(times, params = read().params) {
  if (!times?.length) return null;
  return nearest(times, wholeOf(params.get("time")) ?? HALF_WAY);
}

/** The state of these that is nearest to another. */
export function nearest(times, wanted) {
  return times.reduce((best, t) => (Math.abs(t - wanted) < Math.abs(best - wanted) ? t : best), times[0]);
}

/** The channel the address means, within what there is. */
export function channelOf(channels, params = read().params) {
  return Math.max(0, Math.min((channels || 1) - 1, wholeOf(params.get("channel")) ?? 0));
}

/** The seed the address means: the first where it names none. */
export function seedOf(app, params = read().params) {
  return params.get("seed") === null ? app.run.seeds[0][0] : Number(params.get("seed"));
}

/** The stored seed before or after the one that is shown. */
export function seedBeside(app, by) {
  const now = seedOf(app);
  const next = now + by;
  const stretches = app.run.seeds;
  if (hasSeed(app.run, next)) return next;
  const ends = by > 0 ? stretches.map(([a]) => a).filter((a) => a > now) : stretches.map(([, b]) => b - 1).filter((b) => b < now);
  return ends.length ? (by > 0 ? Math.min(...ends) : Math.max(...ends)) : now;
}

/** Move time or channel by some places. */
export function step(app, what, by) {
  const handle = app.handle ?? {};
  if (what === "time" && handle.times?.length) {
    const at = handle.times.indexOf(timeOf(handle.times));
    set({ time: handle.times[Math.max(0, Math.min(handle.times.length - 1, at + by))] });
  }
  if (what === "channel" && handle.channels > 1) {
    set({ channel: Math.max(0, Math.min(handle.channels - 1, channelOf(handle.channels) + by)), show: null });
  }
}

function runPicker(app) {
  const runs = app.catalogue.runs;
  return runs.length < 2 ? [] : [picker("run", "Run", runs.map((run) => [run.name, run.name]), app.run.name, (run) => set({ run, label: null, seed: null, intervention: null }))];
}

function casePickers(app) {
  return caseControls(app.run, { label: "", intervention: "none", seed: seedOf(app) }, set);
}

/** Controls for one case of a run; `changed` gets what is chosen, and only what the run has. `mark` sets names apart. */
export function caseControls(run, now, changed, mark = "") {
  const { interventions, seeds } = run;
  const count = seeds.reduce((sum, [a, b]) => sum + b - a, 0);
  const input = make("input", {
    id: `seed${mark}`, type: "number", min: seeds[0][0], max: seeds.at(-1)[1] - 1, step: 1, value: now.seed,
    on: { change: () => {
      const seed = input.value.trim() === "" ? NaN : Number(input.value);
      if (hasSeed(run, seed)) return changed({ seed });
      say(`This run has no seed ${input.value || "of that name"}; it has ${seeds.map(([a, b]) => `${a} to ${b - 1}`).join(", ")}.`);
      input.value = input.defaultValue;
    } },
  });
  return [
    picker(`label${mark}`, "Label", labelNames(run), now.label, (label) => changed({ label })),
    interventions.length < 2 ? null : picker(`intervention${mark}`, "Intervention", interventionNames(run), now.intervention, (intervention) => changed({ intervention })),
    make("label", { class: "control" }, make("span", {}, `Seed (${count.toLocaleString("en")} in this run)`), input),
  ].filter(Boolean);
}

/** The labels of a run, for a picker. */
export function labelNames({ labels }) {
  return labels.map(({ label, told }) => [label, told === `label ${label}` ? told : `${label}: ${told}`]);
}

/** The interventions of a run, for a picker. */
export function interventionNames({ interventions }) {
  return interventions.map(({ name, title }) => [name, name === "none" ? "none (clean)" : title]);
}

/** Whether a run has a seed. */
export function hasSeed({ seeds }, seed) {
  return seeds.some(([a, b]) => seed >= a && seed < b);
}

function timeSlider(app) {
  const times = app.handle?.times;
  if (!times?.length) return [];
  const slider = make("input", {
    id: "time", type: "range", min: 0, max: times.length - 1, step: 1, disabled: times.length < 2,
    on: { input: () => set({ time: app.handle.times[Number(slider.value)] }) },
  });
  const play = make("button", { type: "button", id: "play", "aria-pressed": "false", "aria-label": "Play", on: { click: () => turn(app, play) } }, "▶");
  return [make("div", { class: "control wide" }, make("label", { for: "time" }, "State t (noise → image): ", make("output", { id: "time-told", for: "time" })), make("div", { class: "row" }, slider, play))];
}

function channelSlider(app) {
  const { channels, channelName = "Channel" } = app.handle ?? {};
  if (!(channels > 1)) return [];
  const slider = make("input", {
    id: "channel", type: "range", min: 0, max: channels - 1, step: 1,
    on: { input: () => set({ channel: Number(slider.value), show: null }) },
  });
  return [make("div", { class: "control wide" }, make("label", { for: "channel" }, `${channelName}: `, make("output", { id: "channel-told", for: "channel" })), slider)];
}

function settle(app, params) {
  const put = (id, value) => {
    const element = document.getElementById(id);
    if (element && element.value !== String(value)) element.value = value;
  };
  const handle = app.handle ?? {};
  put("label", params.get("label") ?? app.run.labels[0]?.label);
  put("intervention", params.get("intervention") ?? "none");
  const seed = document.getElementById("seed");
  if (seed) seed.defaultValue = seedOf(app, params); // what a wrong one is put back to
  if (document.activeElement !== seed) put("seed", seedOf(app, params));
  const t = timeOf(handle.times, params);
  if (t !== null) {
    put("time", handle.times.indexOf(t));
    document.getElementById("time")?.setAttribute("aria-valuetext", `t = ${t}`);
    const told = document.getElementById("time-told");
    if (told) told.textContent = `${t} of ${app.run.model.steps ?? handle.times[0]}`;
  }
  if (handle.channels > 1) {
    const channel = channelOf(handle.channels, params);
    put("channel", channel);
    const told = document.getElementById("channel-told");
    if (told) told.textContent = handle.channelTold?.(channel) ?? `${channel} of ${handle.channels}`;
  }
}

function turn(app, button) {
  if (playing) {
    clearInterval(playing);
    playing = null;
  } else {
    const times = app.handle.times;
    if (timeOf(times) === times.at(-1)) set({ time: times[0] });
    playing = setInterval(() => {
      const now = app.handle?.times;
      if (!now || timeOf(now) === now.at(-1)) return turn(app, button);
      step(app, "time", 1);
    }, 160);
  }
  button.textContent = playing ? "■" : "▶";
  button.setAttribute("aria-pressed", String(Boolean(playing)));
  button.setAttribute("aria-label", playing ? "Stop" : "Play");
}
