// Attention: where the network looks, summed over layers as the thesis does, or by head and token where there are weights.

import { make } from "app/dom.js";
import { openMaps } from "app/maps.js";

/** Open the view. */
export function open(root, app) {
  root.append(make("h2", {}, "Attention"), make("p", { class: "lead" }, "The sum of attention layers at the size of the image: where the network works at the state t. A map of the branch (.fn) is what attention adds; the other is the layer's whole output."));
  return openMaps(root, app, "attention");
}
