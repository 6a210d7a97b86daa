// How far two sides are apart at every state: the curve with its interval, and the state from which on it is surely so.

import { make, number } from "app/dom.js";
import { band, faint, LEGEND, seedsTold } from "app/curves.js";
import { line, literal, plotCard, timeAxis } from "app/plot.js";
import { read, set } from "app/state.js";
import { colour } from "app/theme.js";

const NULL_TOLD = "null: same noise, images known";

/** An entry of the legend without a line of its own. */
const KEY = { x: [null], y: [null], mode: "lines", hoverinfo: "skip" };
const SHOWN = () => ({ color: colour("accent"), width: 2, dash: "dot" });

/** A card for one pair of sides. `now` gives the state that is shown. */
export function pairCard(told, pair, now) {
  const title = `Side ${pair.sides[0] + 1} and side ${pair.sides[1] + 1}`;
  if (pair.refused) return refusedCard(title, pair.refused);
  const words = [`D(t): ${pair.quantity}${pair.of ? ` of the states ${pair.of}, whatever pictures are shown above` : ""}`, pair.source ? `from ${pair.source}` : null, pair.n ? `mean${pair.mean?.null.some((value) => value !== null) ? " and null" : ""} of n = ${seedsTold(pair)}` : null, pair.note];
  const card = plotCard(title, words.filter(Boolean).join(" · "), () => drawn(pair, now()), { moved: (point) => set({ time: point.x }) });
  const place = card.element.querySelector(".plot");
  place.classList.add("keyed");
  const table = make("div", {});
  if (pair.onsets) card.element.append(table);
  const draw = async () => {
    if (pair.onsets) table.replaceChildren(onsetTable(pair));
    await card.draw();
  };
  return { ...card, draw, title, mark: async () => window.Plotly?.relayout(place, { shapes: shapes(pair, now()) }) };
}

function refusedCard(title, { fact, consequence, remedy }) {
  const element = make("figure", { class: "plot-card" }, make("figcaption", {}, make("strong", {}, title)),
    make("div", { class: "missing" }, make("p", {}, fact), consequence ? make("p", {}, consequence) : null, remedy ? make("p", {}, make("strong", {}, "To mend it: "), remedy) : null));
  return { element, title, draw: async () => {}, mark: async () => {}, close: () => {}, png: async () => null };
}

/** The threshold whose onset is shaded: the address' one, or the first that is claimed. */
function chosen(pair) {
  const wanted = read().params.get("delta");
  return pair.onsets?.find(({ delta }) => String(delta) === wanted) ?? pair.onsets?.find(({ claimed }) => claimed) ?? pair.onsets?.[0];
}

function drawn(pair, t) {
  const excess = pair.claimed === "excess";
  const traces = [];
  const curve = (x, y, name, style) => ({ x, y, name, mode: "lines", line: style, hovertemplate: "%{y:.5g}" });
  const own = excess && pair.own && pair.own_null ? pair.own.map((value, i) => (value === null || pair.own_null[i] === null ? null : value - pair.own_null[i])) : pair.own;
  if (pair.mean) {
    const mean = { times: pair.mean_times };
    const interval = `95 % interval of the mean${excess ? " excess" : ""}`;
    traces.push(...band(mean, { values: pair.mean.lower }, { values: pair.mean.upper }, line(1), interval, "interval"));
    traces.push(curve(pair.mean_times, excess ? pair.mean.excess : pair.mean.value, `mean${excess ? " excess" : ""} of ${seedsTold(pair)}`, { color: line(1), width: 2.5 }));
    if (!excess && pair.mean.null.some((value) => value !== null)) traces.push(curve(pair.mean_times, pair.mean.null, NULL_TOLD, { color: colour("ink"), width: 1.5, dash: "dash" }));
  }
  if (own) traces.push(curve(pair.times, own, `these two samples${pair.of ? `, ${pair.of}` : ""}`, { color: line(0), width: 1.2 }));
  traces.push(...onsetKeys(pair), { ...KEY, name: "the state t that is shown", line: SHOWN() });
  const unit = `${excess ? "excess of " : ""}D(t): ${pair.quantity}${pair.of ? `, ${pair.of}` : ""}`;
  return { traces, layout: {
    xaxis: timeAxis(pair.times), yaxis: { title: { text: literal(unit) }, zeroline: false },
    shapes: shapes(pair, t), ...LEGEND,
  } };
}

/** The state that is shown, the threshold, and the onset with its interval. */
function shapes(pair, t) {
  const upright = (x, style) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: style });
  const found = [upright(t, SHOWN())];
  const onset = chosen(pair);
  if (!onset) return found;
  found.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: onset.delta, y1: onset.delta, line: { color: colour("faint"), width: 1 } });
  const [early, late] = ends(pair, onset);
  if (early !== null) found.push({ type: "rect", x0: early, x1: late, yref: "paper", y0: 0, y1: 1, fillcolor: faint(line(2)), line: { width: 0 }, layer: "below" });
  if (onset.onset !== null) found.push(upright(onset.onset, crossing(onset)));
  return found;
}

/** How an onset is drawn: firmly only where it is claimed. */
function crossing({ claimed }) {
  return claimed ? { color: line(2), width: 2 } : { color: colour("faint"), width: 1, dash: "dot" };
}

/** The interval of an onset from its earliest state to its latest; an open end reaches to the last state. */
function ends(pair, onset) {
  if (onset.onset_upper === null) return [null, null];
  return [onset.onset_upper, onset.onset_lower ?? Math.min(...pair.mean_times)];
}

/** What the upright lines and the shading mean, in the legend. */
function onsetKeys(pair) {
  const onset = chosen(pair);
  if (!onset) return [];
  const key = (name, more) => ({ ...KEY, name, ...more });
  const found = [key(`threshold ${onset.delta}`, { line: { color: colour("faint"), width: 1 } })];
  if (onset.onset_upper !== null) found.push(key(`onset's interval${onset.claimed ? "" : ", not claimed"}`, { fill: "toself", fillcolor: faint(line(2)), line: { width: 0, color: line(2) } }));
  if (onset.onset !== null) found.push(key(onset.claimed ? "onset of the mean, claimed" : "first crossing, not claimed", { line: crossing(onset) }));
  // In the colour of the null's own curve, and where that crosses the threshold.
  if (onset.null_onset !== null) found.push({ x: [onset.null_onset], y: [onset.delta], mode: "markers", name: "onset of the null", marker: { color: colour("ink"), size: 11, symbol: "diamond" }, hovertemplate: `t = ${onset.null_onset}` });
  return found;
}

/** Every threshold with its onset; a button chooses which one is shaded. */
function onsetTable(pair) {
  const now = chosen(pair);
  const state = (value) => (value === null ? "none" : `t = ${number(value)}`);
  const interval = (onset) => (onset.onset_upper === null ? "nowhere above" : `${state(onset.onset_upper)} to ${onset.onset_lower === null ? "after the last state" : state(onset.onset_lower)}`);
  const rows = pair.onsets.map((onset) => make("tr", {},
    make("th", { scope: "row" }, make("button", { type: "button", "aria-pressed": String(onset === now), on: { click: () => set({ delta: onset.delta }) } }, `${onset.delta}`)),
    make("td", {}, onset.claimed ? state(onset.onset) : "not claimed"), make("td", {}, interval(onset)), make("td", {}, state(onset.null_onset))));
  const head = ["threshold", "stays above from", "95 % interval", "the null alone"].map((name) => make("th", { scope: "col" }, name));
  return make("table", { class: "onsets" }, make("caption", {}, "Onsets (t descends from noise to image)"), make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows));
}
