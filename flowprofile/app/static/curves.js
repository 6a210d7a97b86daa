// One measure as a plot: a line of the case, its null, all seeds, and below it the excess with its interval.

import { make, number } from "app/dom.js";
import { line, literal, plotCard, timeAxis } from "app/plot.js";
import { set } from "app/state.js";
import { colour } from "app/theme.js";

const NULL_TOLD = (seed) => `null of seed ${seed}: same noise, image known`;
const INTERVAL_TOLD = "95 % interval of the mean excess";
const BAND_TOLD = (measure) => `10 to 90 % of ${seedsTold(measure)}`;
const UNITS = { 1: "no unit", index: "index, no order" };
const SAID = { other_label: "to label", read_label: "label that is read" };
const BANDS = 3;
const WIDE = 24;
/** Colours of several lines, neighbours far apart; the first two mean a seed and a mean wherever one line is drawn. */
const PLACES = [2, 3, 4, 6, 7, 5, 0, 1];
/** So many states between two that are kept, beside pairs of neighbours, make a curve look as if it had hooks. */
const APART = 5;

/** How many seeds statistics are over, and of how many where these are not all. */
export function seedsTold(of) {
  return `${countTold(of)} seeds`;
}

function countTold({ n, computed }) {
  return n < computed ? `${n.toLocaleString("en")} of ${computed.toLocaleString("en")}` : n.toLocaleString("en");
}

function drawnTold(measure, seed) {
  return `drawn: seed ${seed}${measure.n > 1 ? ` of n = ${seedsTold(measure)}` : ""}`;
}

/** Of states that are kept with the one before each: a pair is a single step, and the next pair is far. */
function pairsTold({ times }) {
  const steps = times.slice(1).map((t, i) => times[i] - t);
  const paired = steps.filter((step) => step === 1).length > 1 && Math.max(...steps) >= APART;
  return paired ? "states are kept in pairs (t + 1, t): a small hook is one step" : null;
}

/** Whether a measure runs over several states; a single one is no curve. */
export function isCurve(measure) {
  return measure.times.length > 1;
}

/** A card that plots a measure of a seed; `state` says what of it: t, which curves, which lines. */
export function curveCard(measure, seed, state) {
  const words = [measure.long_name, UNITS[measure.unit] ?? measure.unit, drawnTold(measure, seed), measure.pixels ? `mean over ${measure.pixels} pixels` : null, pairsTold(measure), measure.note];
  const card = plotCard(measure.name, words.filter(Boolean).join(" · "), () => drawn(measure, seed, state()), { moved: (point) => set({ time: point.x }) });
  const place = card.element.querySelector(".plot");
  const draw = async () => {
    place.classList.toggle("two", measure.has_null && state().show === "both");
    await card.draw();
  };
  return { ...card, draw, title: measure.name, mark: async () => window.Plotly?.relayout(place, { shapes: [at(state().t)] }) };
}

/** Traces and axes of a measure. */
function drawn(measure, seed, { t, show, lines, first }) {
  const both = measure.has_null && show === "both";
  const excess = measure.has_null && show === "excess";
  const several = lines.length > 1;
  const traces = [
    ...(excess ? [] : lines.flatMap((each, i) => valueTraces(measure, seed, each, i, lines.length))),
    ...(both || excess ? lines.flatMap((each, i) => excessTraces(measure, seed, each, i, lines.length, both)) : []),
    ...(several ? keys(measure, seed, lines.length, { both, excess }) : []),
  ];
  // In the lower of two panels, and of a long name, there is room for a unit below the name only.
  const axis = (title) => ({ title: { text: both || title.length > WIDE ? literal(title).replace(" (", "<br>(") : literal(title) }, zeroline: false });
  const beyond = { ...axis(measure.excess), zeroline: true, zerolinecolor: colour("edge"), zerolinewidth: 1 };
  return {
    traces,
    layout: {
      xaxis: { ...timeAxis([first, ...measure.times]), anchor: both ? "y2" : "y" },
      yaxis: excess ? beyond : { ...axis(measure.y), domain: both ? [0.45, 1] : [0, 1] },
      ...(both ? { yaxis2: { ...beyond, domain: [0, 0.37] } } : {}),
      shapes: [at(t)], ...LEGEND,
    },
  };
}

/** A legend below the axis' title, whatever room it takes. */
export const LEGEND = { showlegend: true, legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, traceorder: "normal", font: { size: 12 } } };

/** The line at the state that is shown. */
function at(t) {
  return { type: "line", x0: t, x1: t, yref: "paper", y0: 0, y1: 1, line: { color: colour("accent"), width: 2, dash: "dot" } };
}

function colourOf(i, alone) {
  return line(alone ? 0 : PLACES[i % PLACES.length]);
}

function valueTraces(measure, seed, each, i, count) {
  const { series } = each;
  const alone = count === 1;
  const mine = colourOf(i, alone);
  const own = alone ? [`seed ${seed}`, each.caption, measure.pixels ? "mean over pixels" : null].filter(Boolean).join(", ") : each.caption;
  const width = measure.times.length > 300 ? 1.2 : 2;
  const traces = [];
  if (series.low && alone) traces.push(...band(measure, series.low, series.high, colour("faint"), BAND_TOLD(measure), `v${i}`));
  if (series.low && !alone && count <= BANDS) traces.push(...edges(measure, series.low, series.high, mine));
  if (series.least) traces.push(...edges(measure, series.least, series.most, mine, alone ? `seed ${seed}, least and most of all pixels` : null));
  traces.push(curve(measure, series.value, own, measure.unit === "index" ? POINTS(mine, measure) : { mode: "lines", line: { color: mine, width } }));
  if (series.null) traces.push({ ...curve(measure, series.null, alone ? NULL_TOLD(seed) : `${own}, null`, { mode: "lines", line: { color: alone ? colour("ink") : mine, width: 1.2, dash: "dash" } }), showlegend: alone });
  if (series.mean && alone) traces.push(curve(measure, series.mean, `mean of ${seedsTold(measure)}`, { mode: "lines", line: { color: line(1), width } }));
  return traces;
}

function excessTraces(measure, seed, each, i, count, below) {
  const { series } = each;
  const alone = count === 1;
  const mine = colourOf(i, alone);
  const on = below ? { yaxis: "y2" } : {};
  const place = below ? "below: " : "";
  // In the lower panel a colour says which line it is; the legend names it once, above.
  const legend = { showlegend: alone || !below };
  const traces = [];
  if (series.excess_lower && count <= BANDS) traces.push(...band(measure, series.excess_lower, series.excess_upper, alone ? line(1) : mine, `${place}${INTERVAL_TOLD}`, `e${i}`, alone).map((trace) => ({ ...trace, ...on })));
  const name = alone ? `${place}excess of seed ${seed}` : each.caption;
  const own = { ...curve(measure, series.excess, name, { mode: "lines", line: { color: mine, width: 1 } }), ...on };
  if (alone || !series.excess_mean) traces.push({ ...own, ...legend });
  if (series.excess_mean) traces.push({ ...curve(measure, series.excess_mean, alone ? `${place}mean excess of ${seedsTold(measure)}` : name, { mode: "lines", line: { color: alone ? line(1) : mine, width: 2 } }), ...on, ...legend });
  return traces;
}

/** What lines, dashes and bands mean, once for all lines. */
function keys(measure, seed, count, { both, excess }) {
  const ink = colour("ink");
  const dummy = (name, more) => ({ x: [null], y: [null], mode: "lines", name, hoverinfo: "skip", ...more });
  const few = count <= BANDS;
  const found = [];
  if (!excess) found.push(measure.unit === "index" ? dummy(`points, in each colour: seed ${seed}`, POINTS(ink, measure)) : dummy(`solid, in each colour: seed ${seed}`, { line: { color: ink, width: 2 } }));
  if (measure.has_null && !excess) found.push(dummy(`dashed: ${NULL_TOLD(seed)}`, { line: { color: ink, dash: "dash", width: 1.5 } }));
  if (measure.n > 1 && few && !excess) found.push(dummy(`dotted: ${BAND_TOLD(measure)}`, { line: EDGE(ink) }));
  if (!both && !excess) return found;
  const place = both ? "below, in each colour: " : "in each colour: ";
  if (measure.n > 1) found.push(dummy(`${place}mean excess of ${seedsTold(measure)}`, { line: { color: ink, width: 2 } }));
  else found.push(dummy(`${place}excess of seed ${seed}`, { line: { color: ink, width: 1 } }));
  if (measure.n > 2 && few) found.push(dummy(`${place}${INTERVAL_TOLD}`, { fill: "toself", fillcolor: faint(ink), line: { width: 0, color: ink } }));
  return found;
}

function curve(measure, { values }, name, style) {
  return { x: measure.times, y: values, name: literal(name), hovertemplate: "%{y:.5g}", connectgaps: false, ...style };
}

/** Numbers that only name something: between two of them there is nothing, so no line is drawn. */
const POINTS = (color, { times }) => ({ mode: "markers", cliponaxis: false, marker: { color, size: times.length > 300 ? 3 : 7, symbol: "line-ew", line: { color, width: 2 } } });

/** The ends of a range, where several would hide each other as bands. */
const EDGE = (color) => ({ color, width: 1, dash: "dot" });

function edges(measure, low, high, color, name = null) {
  const end = (series, told) => ({ ...curve(measure, series, told, { mode: "lines", line: EDGE(color), hoverinfo: "skip" }), hovertemplate: null, showlegend: false });
  return [end(low, `${name ?? "range"}, lower end`), { ...end(high, name ?? "range, upper end"), showlegend: name !== null }];
}

/** A filled band; a state without numbers leaves it out. */
export function band(measure, low, high, fill, name, group, showlegend = true) {
  const common = { x: measure.times, mode: "lines", line: { width: 0, color: fill }, legendgroup: group, hoverinfo: "skip" };
  return [
    { ...common, y: low.values, showlegend: false, name: `${name}, lower end` },
    { ...common, y: high.values, name, fill: "tonexty", fillcolor: faint(fill), showlegend },
  ];
}

/** The same colour, mostly clear. */
export function faint(hex) {
  return `rgba(${[1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16)).join(", ")}, 0.2)`;
}

/** What a measure of several lines says at its only state, as bars that lie: names of labels are long. */
export function barCard(measure, seed) {
  const names = measure.lines.map((each) => literal(each.caption.replace(/^label /, "")));
  const of = (role) => measure.lines.map((each) => each.series[role]?.values[0] ?? null);
  const words = [measure.long_name, UNITS[measure.unit] ?? measure.unit, `t = ${measure.times[0]}`, drawnTold(measure, seed), measure.note];
  const card = plotCard(measure.name, words.filter(Boolean).join(" · "), () => {
    const [mean, low, high] = ["mean", "low", "high"].map(of);
    const bars = (x, name, color, more) => ({ type: "bar", orientation: "h", x, y: names, name, marker: { color }, hovertemplate: "%{x:.5g}", ...more });
    const traces = [bars(of("value"), `seed ${seed}`, line(0))];
    if (measure.n > 1 && mean.some((value) => value !== null)) traces.push(bars(mean, `mean of ${seedsTold(measure)}; whiskers: ${BAND_TOLD(measure)}`, line(1), {
      error_x: { type: "data", symmetric: false, array: mean.map((m, i) => high[i] - m), arrayminus: mean.map((m, i) => m - low[i]), color: colour("ink") },
    }));
    return { traces, layout: {
      barmode: "group", bargap: 0.3, hovermode: "closest", xaxis: { title: { text: literal(measure.y) } },
      yaxis: { title: { text: measure.axes.map((axis) => SAID[axis] ?? axis).join(", "), standoff: 12 }, type: "category", autorange: "reversed", tickfont: { size: 11, color: colour("faint") }, dtick: 1 }, ...LEGEND,
    } };
  });
  card.element.querySelector(".plot").style.height = `${Math.max(20, 9 + 1.3 * names.length)}rem`;
  return { ...card, title: measure.name, mark: async () => {} };
}

/** Measures of one line and one state, together in a table. */
export function numbersCard(measures, seed) {
  const unit = (measure) => (["1", "number", "index"].includes(measure.unit) ? "" : ` ${measure.unit}`);
  const columns = [[`seed ${seed}`, "value"], ["mean of seeds", "mean"], ["10 % of seeds are below", "low"], ["90 % are below", "high"], [`null of seed ${seed}`, "null"], [`excess of seed ${seed}`, "excess"]]
    .filter(([, role]) => measures.some((measure) => measure.lines[0].series[role]));
  const cell = (measure, role) => {
    const each = measure.lines[0].series[role];
    return make("td", {}, each ? `${number(each.values[0])}${unit(measure)}` : "");
  };
  const element = make("figure", { class: "plot-card" },
    make("figcaption", {}, make("strong", {}, "At one state")),
    make("div", { class: "table-scroll", tabindex: "0", role: "region", "aria-label": "Measures at one state" }, make("table", {},
      make("thead", {}, make("tr", {}, ["measure", "t", ...columns.map(([told]) => told), "n"].map((told) => make("th", { scope: "col" }, told)))),
      make("tbody", {}, measures.map((measure) => make("tr", {}, make("th", { scope: "row", title: measure.long_name }, measure.name),
        make("td", {}, number(measure.times[0])), columns.map(([, role]) => cell(measure, role)), make("td", {}, measure.n > 1 ? countTold(measure) : "")))))));
  return { element, title: "At one state", draw: async () => {}, mark: async () => {}, close: () => {}, png: async () => null };
}
