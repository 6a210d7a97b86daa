// Small finished samples, many in one request.

import { framed } from "app/source.js";

const TOGETHER = 64;
const HELD = 2000;

/** The small pictures of a run; what was fetched once is kept. */
export class Thumbnails {
  constructor(run) {
    this.run = run;
    this.held = new Map();
  }

  /** Fill every canvas of a table: one request for up to 64 seeds of a label. */
  async fill(element, signal) {
    const groups = new Map();
    for (const canvas of element.querySelectorAll("canvas.thumbnail")) {
      const { intervention, label, seed } = canvas.dataset;
      const found = this.held.get(keyOf(intervention, label, seed));
      if (found) paintThumbnail(canvas, found);
      else groups.set(`${label}|${intervention}`, [...(groups.get(`${label}|${intervention}`) ?? []), canvas]);
    }
    const parts = [...groups.values()].flatMap((group) => Array.from({ length: Math.ceil(group.length / TOGETHER) }, (_, i) => group.slice(i * TOGETHER, (i + 1) * TOGETHER)));
    await Promise.all(parts.map((part) => this.#fetch(part, signal))).catch((error) => {
      if (error.name !== "AbortError") parts.flat().forEach((canvas) => canvas.replaceWith(document.createTextNode("not kept")));
    });
  }

  async #fetch(canvases, signal) {
    const { intervention, label } = canvases[0].dataset;
    const asked = new URLSearchParams({ run: this.run, intervention, label, seeds: canvases.map((canvas) => canvas.dataset.seed).join(",") });
    const [{ width, height }, data] = await framed("thumbnails", asked, { signal });
    const size = width * height * 4;
    canvases.forEach((canvas, i) => {
      const image = new ImageData(data.slice(i * size, (i + 1) * size), width, height);
      if (this.held.size > HELD) this.held.clear();
      this.held.set(keyOf(intervention, label, canvas.dataset.seed), image);
      paintThumbnail(canvas, image);
    });
  }
}

function keyOf(...parts) {
  return parts.join("|");
}

function paintThumbnail(canvas, image) {
  Object.assign(canvas, { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
}
