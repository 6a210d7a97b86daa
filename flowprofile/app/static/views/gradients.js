// Gradients: what pulls at chosen pixels, layer by layer, and the rows of a step's Jacobian as a volume.

import { make, picker } from "app/dom.js";
import { openMaps } from "app/maps.js";
import { among } from "app/notes.js";
import { read, set } from "app/state.js";
import { drawVolume } from "app/volume.js";

const SORTS = [["pixels", "on the pixels of x_(t+1)"], ["layers", "at layers"]];
const SHOWN = { pixels: "those on pixels are shown", layers: "those at layers are shown" };

/** Open the view. */
export function open(root, app) {
  root.append(make("h2", {}, "Gradients"), make("p", { class: "lead" }, "How the chosen pixels of x_t depend on what came before: on every pixel of the state before, x_(t+1), and on layers. A pixel depends most on itself; a volume leaves its own entry out, sums and energies hold it: clip them to see the rest."));
  const volumes = [];
  const after = (told) => told.panels.filter((panel) => panel.leading.some(({ name }) => name === "pixel")).map((panel) => {
    volumes.push(drawVolume(panel, app));
    return volumes.at(-1).element;
  });
  const sort = ({ objects }) => picker("object", "Gradients", SORTS.filter(([name]) => objects.includes(name)), objects[0], (object) => set({ object, layer: null, channel: null }));
  const words = ({ objects }) => (read().params.has("layer") ? {} : { object: among(objects, SHOWN[objects[0]]) });
  return openMaps(root, app, "gradients", { tools: (told) => (told.objects.length ? [sort(told)] : []), words, after, more: {
    move: (changed) => Promise.all(volumes.map((volume) => volume.move(changed))),
    close: () => volumes.forEach((volume) => volume.close()),
  } });
}
