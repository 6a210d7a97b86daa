// The network as a drawing: blocks in the order of the forward pass, layers as bars, at the height of their resolution.

import { draw, make, notComputed } from "app/dom.js";
import { set } from "app/state.js";

const [BAR, GAP, TALL, MOST] = [13, 3, 50, 6];

/** Draw the network; stored layers can be chosen, up to six of them. */
export function drawNetwork(told) {
  const chosen = told.panels.map((panel) => panel.title);
  const widest = Math.max(...told.network.blocks.flatMap(({ layers }) => layers.map(({ channels }) => channels)), 1);
  const largest = Math.max(...told.network.blocks.flatMap(({ layers }) => layers.map(({ side }) => side)), 1);
  const missing = make("div", { "aria-live": "polite" });
  let x = 0;
  const blocks = told.network.blocks.map(({ name, layers }) => {
    const start = x;
    const bars = layers.map((layer) => {
      const at = x;
      x += BAR + GAP;
      return bar(layer, at, widest, largest, chosen, (name) => missing.replaceChildren(notComputed(told.grow.replace("LAYER", name), `The activation of ${name} is not computed.`)));
    });
    x = Math.max(x + 10, start + 6.5 * name.length);
    return draw("g", {}, bars, draw("text", { x: start, y: 120, class: "block-name" }, name));
  });
  const svg = draw("svg", { viewBox: `0 0 ${x} 128`, class: "network", role: "group", "aria-label": "The network's layers, in the order of the forward pass" }, blocks);
  return make("section", { class: "schematic" }, svg, missing,
    make("p", { class: "key" }, "Taller: more channels. Lower: coarser. ", swatch("shown"), " shown, ", swatch("stored"), " stored, ", swatch("absent"), " not computed: a click says what computes it. A bar's name is told under the pointer."),
    make("p", { class: "key", id: "layer-told", "aria-live": "polite" }, `Shown: ${chosen.join(", ") || "none"}`));
}

/** A bar's colour, which another theme has another of. */
function swatch(state) {
  return make("span", { class: `swatch ${state}`, "aria-hidden": "true" });
}

function bar({ layer, channels, side, stored }, x, widest, largest, chosen, lacks) {
  const tall = Math.max(6, TALL * Math.sqrt(channels / widest));
  const depth = Math.log2(largest / side) * 17;
  const shown = chosen.includes(layer);
  const does = () => (stored ? choose(layer, chosen) : lacks(layer));
  const words = `${layer}, ${channels} channels, ${side} by ${side}, ${stored ? "stored" : "not computed"}`;
  const role = stored ? { role: "checkbox", "aria-checked": String(shown) } : { role: "button" };
  return draw("rect", {
    x, y: 8 + depth, width: BAR, height: tall, rx: 2, class: `layer${stored ? " stored" : ""}${shown ? " shown" : ""}`,
    ...role, tabindex: stored ? "0" : "-1", "aria-label": words,
    on: { click: does, keydown: (event) => [" ", "Enter"].includes(event.key) && (event.preventDefault(), event.stopPropagation(), does()) },
  }, draw("title", {}, words));
}

function choose(layer, chosen) {
  const next = chosen.includes(layer) ? chosen.filter((each) => each !== layer) : [...chosen, layer].slice(-MOST);
  if (next.length) set({ layer: next }, { push: true });
}
