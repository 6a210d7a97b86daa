// Attention: where the network looks, summed over layers as the thesis does, or by head and token where there are weights.

import { code, make } from "app/dom.js";
import { openMaps } from "app/maps.js";

const SUMS = "Outputs of attention layers, not their weights: summed over layers and channels at the size of the image, red above zero and blue below. Some maps are of what a layer adds to the features that pass it by, others of the sum behind it; each says which.";
const WEIGHTS = "Of layers with weights: how much each place looks at a token, by head.";

/** Open the view. */
export function open(root, app) {
  root.append(make("h2", {}, "Attention"));
  return openMaps(root, app, "attention", { before: ({ panels }) => [make("p", { class: "lead" }, lead(panels))], after: ({ words }) => (words ? [wordsTold(words)] : []) });
}

/** What the maps that are shown are; a view without any tells of sums, which every model has. */
function lead(panels) {
  const weights = panels.some(({ leading }) => leading.length);
  const sums = !weights || panels.some(({ leading }) => !leading.length);
  return [sums ? SUMS : null, weights ? WEIGHTS : null].filter(Boolean).join(" ");
}

/** How numbers of tokens become words: the store has the prompt, its tokenizer is with the model. */
function wordsTold({ prompt, python }) {
  return make("section", { "aria-label": "Tokens of the prompt" },
    make("p", { class: "key" }, `A token of a text is a place in the prompt “${prompt}”. Its words are not stored; the model's own tokenizer names them, in Python:`), code(python));
}
