// Activations: the network as a drawing to choose layers from, and their channels side by side.

import { make } from "app/dom.js";
import { openMaps } from "app/maps.js";
import { drawNetwork } from "app/network.js";

/** Open the view. */
export function open(root, app) {
  root.append(make("h2", {}, "Activations"), make("p", { class: "lead" }, "What layers put out in the step into x_t. Choose up to six in the drawing; c* is the strongest channel, everywhere or within a mask."));
  return openMaps(root, app, "activations", { before: (told) => [drawNetwork(told)] });
}
