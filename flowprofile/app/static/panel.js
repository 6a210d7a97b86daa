// One picture with everything that makes it readable: title, axes, scale, the value under the pointer, its marks.

import { paint, paintImage, paintScale, scale } from "app/colour.js";
import { make, notComputed, number } from "app/dom.js";

/** A panel for what the server describes; `draw` fills it. */
export class Panel {
  constructor(told, { onPoint = null } = {}) {
    const [h, w] = told.shape.slice(-2);
    this.told = told;
    this.size = [h, w];
    this.values = null;
    this.canvas = make("canvas", { role: "img", tabindex: "0", class: "map", "aria-label": told.title });
    this.overlay = make("canvas", { class: "overlay", "aria-hidden": "true" });
    this.legend = make("canvas", { class: "scale", "aria-hidden": "true" });
    this.ends = [make("span"), make("span")];
    this.value = make("output", { class: "value" }, " ");
    this.note = make("div", { class: "notes" });
    this.told_ = make("span", { class: "told" });
    this.gone = make("div", { class: "gone", hidden: true });
    const unit = told.unit === "1" ? "no unit" : told.unit;
    const cell = told.grid ? "cells" : "pixels";
    this.scaleRow = make("div", { class: "legend" }, this.legend, this.ends[0], make("span", { class: "unit" }, told.image ? "pixel value" : unit), this.ends[1]);
    this.frame = make("div", { class: "frame" },
      make("span", { class: "axis-y" }, make("span", {}, String(h - 1)), make("span", {}, `y (${cell})`), make("span", {}, "0")),
      make("div", { class: "stack" }, this.canvas, this.overlay, this.gone),
      make("span", { class: "axis-x" }, make("span", {}, "0"), make("span", {}, `x (${cell})`), make("span", {}, String(w - 1))));
    this.element = make("figure", { class: "panel", dataset: { node: told.node } },
      make("figcaption", {}, make("strong", {}, told.title), this.told_), this.frame, this.scaleRow, this.value, this.note);
    this.cursor = null;
    this.#listen(onPoint);
  }

  /** Show numbers [y x] on a scale, or planes of colours where the panel is an image. */
  draw({ values, planes = null, range = null, told, log = false }) {
    const [h, w] = this.size;
    this.gone.hidden = true;
    this.canvas.hidden = false;
    this.values = values;
    if (planes) {
      this.shown = { name: "gray", low: range[0], high: range[1] };
      paintImage(this.canvas, planes, h, w, range);
      this.scaleRow.hidden = true;
      told += `, black ${number(range[0])} to white ${number(range[1])}, clipped`;
    } else {
      this.shown = scale(range.low, range.high, log);
      paint(this.canvas, values, h, w, this.shown);
      paintScale(this.legend, this.shown);
      [this.shown.low, this.shown.high].forEach((end, i) => (this.ends[i].textContent = number(end, 3)));
      this.scaleRow.hidden = false;
      if (log) told += `; logarithmic, linear within ±${number(this.shown.near, 2)}`;
    }
    this.told_.textContent = told;
    this.canvas.setAttribute("aria-label", `${this.told.title}: ${told}, ${h} by ${w}, ${number(this.shown.low, 3)} to ${number(this.shown.high, 3)}`);
    if (this.cursor) this.#point(...this.cursor);
  }

  /** Say that this state is not there, and what computes it. */
  miss(told, command) {
    this.values = null;
    this.canvas.hidden = true;
    this.gone.hidden = false;
    this.gone.replaceChildren(notComputed(command, told));
    this.scaleRow.hidden = true;
    this.told_.textContent = "not computed";
  }

  /** Outline the pixels that a mask of [y x] has. */
  outline(mask, height, width) {
    const context = this.overlay.getContext("2d");
    const fine = Math.max(1, Math.round(320 / Math.max(height, width)));
    Object.assign(this.overlay, { width: width * fine, height: height * fine });
    if (!mask) return;
    const has = (y, x) => y >= 0 && x >= 0 && y < height && x < width && mask[y * width + x];
    for (const [colour, line] of [["#000", 4], ["#ffe14d", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.beginPath();
      for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) if (has(y, x)) {
        for (const [dy, dx, a, b, c, d] of [[-1, 0, 0, 0, 0, 1], [1, 0, 1, 0, 1, 1], [0, -1, 0, 0, 1, 0], [0, 1, 0, 1, 1, 1]]) {
          if (has(y + dy, x + dx)) continue;
          context.moveTo((x + b) * fine, (y + a) * fine);
          context.lineTo((x + d) * fine, (y + c) * fine);
        }
      }
      context.stroke();
    }
  }

  /** The pixel under a pointer, or null. */
  pixel(event) {
    const box = this.canvas.getBoundingClientRect();
    const [h, w] = this.size;
    const [y, x] = [Math.floor(((event.clientY - box.top) / box.height) * h), Math.floor(((event.clientX - box.left) / box.width) * w)];
    return y >= 0 && x >= 0 && y < h && x < w ? [y, x] : null;
  }

  #listen(onPoint) {
    this.canvas.addEventListener("pointermove", (event) => {
      const at = this.pixel(event);
      if (at) this.#point(...at);
      if (at && onPoint) onPoint(at);
    });
    this.canvas.addEventListener("pointerleave", () => {
      this.cursor = null;
      this.value.textContent = " ";
    });
    this.canvas.addEventListener("keydown", (event) => {
      const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!move) return;
      event.preventDefault();
      event.stopPropagation();
      const [y, x] = this.cursor ?? [0, -1];
      this.#point(...[y + move[0], x + move[1]].map((v, i) => Math.max(0, Math.min(this.size[i] - 1, v))));
    });
  }

  #point(y, x) {
    this.cursor = [y, x];
    if (!this.values) return;
    const at = y * this.size[1] + x;
    const said = Array.isArray(this.values) ? this.values.map((plane) => number(plane[at], 3)).join(", ") : number(this.values[at]);
    this.value.textContent = `y ${y}, x ${x}: ${said}`;
  }
}

/** Panels as one picture with their titles, for saving. */
export function together(panels, title) {
  const side = 256;
  const [gap, head] = [16, 56];
  const columns = Math.min(3, panels.length);
  const rows = Math.ceil(panels.length / columns);
  const page = Object.assign(make("canvas"), { width: columns * (side + gap) + gap, height: rows * (side + head + gap) + 40 });
  const context = page.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, page.width, page.height);
  context.fillStyle = "#22272e";
  context.font = "bold 15px sans-serif";
  context.fillText(title, gap, 24);
  context.imageSmoothingEnabled = false;
  panels.forEach((panel, i) => {
    const [x, y] = [gap + (i % columns) * (side + gap), 40 + Math.floor(i / columns) * (side + head + gap)];
    context.font = "bold 13px sans-serif";
    context.fillText(panel.told.title, x, y + 12);
    context.font = "12px sans-serif";
    context.fillText(panel.told_.textContent, x, y + 27);
    if (!panel.canvas.hidden) context.drawImage(panel.canvas, x, y + 32, side, side);
    if (!panel.canvas.hidden && !panel.scaleRow.hidden) {
      context.drawImage(panel.legend, x + 60, y + side + 38, side - 120, 8);
      context.fillText(panel.ends[0].textContent, x, y + side + 46);
      context.fillText(panel.ends[1].textContent, x + side - 52, y + side + 46);
    }
  });
  return new Promise((done) => page.toBlob(done, "image/png"));
}
