// Attention: where the network looks, summed over layers as the thesis does, or by head and token where there are weights.

import { code, make } from "app/dom.js";
import { openMaps } from "app/maps.js";

/** Open the view. */
export function open(root, app) {
  root.append(make("h2", {}, "Attention"), make("p", { class: "lead" }, "Outputs of attention layers, summed over layers and channels at the size of the image: red adds, blue takes away. Where a layer is the branch (.fn) it is what attention adds; else the sum behind it. Of layers with weights: how much each place looks at a token, by head."));
  return openMaps(root, app, "attention", { after: ({ words }) => (words ? [wordsTold(words)] : []) });
}

/** How numbers of tokens become words: the store has the prompt, its tokenizer is with the model. */
function wordsTold({ prompt, python }) {
  return make("section", { "aria-label": "Tokens of the prompt" },
    make("p", { class: "key" }, `A token of a text is a place in the prompt “${prompt}”. Its words are not stored; the model's own tokenizer names them, in Python:`), code(python));
}
