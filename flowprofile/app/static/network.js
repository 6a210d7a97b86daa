// The network as a drawing: blocks in the order of the forward pass, layers as bars, at the height of their resolution.

import { draw, make } from "app/dom.js";
import { set } from "app/state.js";

const [BAR, GAP, TALL, MOST] = [13, 3, 64, 6];

/** Draw the network; stored layers can be chosen, up to six of them. */
export function drawNetwork(told) {
  const chosen = told.panels.map((panel) => panel.title);
  const widest = Math.max(...told.network.blocks.flatMap(({ layers }) => layers.map(({ channels }) => channels)), 1);
  const largest = Math.max(...told.network.blocks.flatMap(({ layers }) => layers.map(({ side }) => side)), 1);
  let x = 0;
  const blocks = told.network.blocks.map(({ name, layers }) => {
    const start = x;
    const bars = layers.map((layer) => {
      const at = x;
      x += BAR + GAP;
      return bar(layer, at, widest, largest, chosen, told);
    });
    x = Math.max(x + 10, start + 6.5 * name.length);
    return draw("g", {}, bars, draw("text", { x: start, y: 152, class: "block-name" }, name));
  });
  const svg = draw("svg", { viewBox: `0 0 ${x} 160`, class: "network", role: "group", "aria-label": "The network's layers, in the order of the forward pass" }, blocks);
  return make("section", { class: "schematic" }, svg,
    make("p", { class: "key" }, "Height: number of channels. Lower: coarser. Filled: stored; outlined in colour: shown; grey: not stored."),
    make("p", { class: "key", id: "layer-told", "aria-live": "polite" }, `Shown: ${chosen.join(", ") || "none"}`));
}

function bar({ layer, channels, side, stored }, x, widest, largest, chosen, told) {
  const tall = Math.max(6, TALL * Math.sqrt(channels / widest));
  const depth = Math.log2(largest / side) * 22;
  const shown = chosen.includes(layer);
  const does = () => choose(layer, chosen);
  const words = `${layer}, ${channels} channels, ${side} by ${side}, ${stored ? "stored" : "not stored"}`;
  return draw("rect", {
    x, y: 8 + depth, width: BAR, height: tall, rx: 2, class: `layer${stored ? " stored" : ""}${shown ? " shown" : ""}`,
    ...(stored ? { role: "checkbox", "aria-checked": String(shown), tabindex: "0", "aria-label": words } : { role: "img", "aria-label": words }),
    on: stored ? { click: does, keydown: (event) => [" ", "Enter"].includes(event.key) && (event.preventDefault(), event.stopPropagation(), does()) } : {},
  }, draw("title", {}, words + (stored ? "" : `. To have it: flowprofile rerun ${told.store ?? "STORE"} --set stages.activations.layers='["${layer}"]'`)));
}

function choose(layer, chosen) {
  const next = chosen.includes(layer) ? chosen.filter((each) => each !== layer) : [...chosen, layer].slice(-MOST);
  if (next.length) set({ layer: next }, { push: true });
}
