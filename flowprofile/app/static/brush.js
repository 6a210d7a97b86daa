// A mask drawn with a brush on the image, given by numbers, by a named region, or as a two-valued picture.

import { code, make, picker, say } from "app/dom.js";
import { field, maskText, pixelsOf, pixelsOfPicture } from "app/masks.js";
import { set } from "app/state.js";

/** Tools that draw on a panel; what is drawn is part of the address, so that it is kept, sent and used by other views. */
export function drawMaskTools(panel, regions) {
  const [height, width] = panel.size;
  let pixels = new Set();
  let mode = null;
  let stroke = null;
  const wide = make("output", { for: "brush" });
  const size = make("input", { type: "range", min: 1, max: 7, step: 2, value: 3, id: "brush", on: { input: () => sized() } });
  const sized = () => (wide.textContent = `${size.value} ${size.value === "1" ? "pixel" : "pixels"}`);
  sized();
  const count = make("output", { class: "told" });
  const numbers = make("input", { id: "mask-numbers", type: "text", placeholder: "489,490 or 15:18,9:14", on: { change: () => given(numbers.value) } });
  const file = make("input", { id: "mask-file", type: "file", accept: "image/png", on: { change: () => uploaded() } });
  const used = make("div");
  const buttons = ["draw", "erase"].map((name) => make("button", { type: "button", "aria-pressed": "false", on: { click: () => choose(name) } }, name === "draw" ? "Draw" : "Erase"));
  const region = picker("region", "Region", [["", "–"], ...Object.keys(regions).map((name) => [name, name])], "", (name) => set({ mask: name || null }));
  const clear = make("button", { type: "button", on: { click: () => set({ mask: null }) } }, "Clear");

  function choose(name) {
    mode = mode === name ? null : name;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(["draw", "erase"][i] === mode)));
    panel.canvas.classList.toggle("drawing", mode !== null);
  }

  function dab(event) {
    const at = panel.pixel(event);
    if (!at) return;
    const reach = Number(size.value) / 2;
    for (let y = Math.ceil(at[0] - reach); y <= at[0] + reach; y += 1) for (let x = Math.ceil(at[1] - reach); x <= at[1] + reach; x += 1) {
      if (y < 0 || x < 0 || y >= height || x >= width) continue;
      if (mode === "draw") stroke.add(y * width + x);
      else stroke.delete(y * width + x);
    }
    panel.outline(field([...stroke], height, width), height, width);
    count.textContent = told(stroke.size);
  }

  function given(text) {
    try {
      set({ mask: maskText(numbered(text, height, width), regions) });
      say("");
    } catch (error) {
      say(error.message);
    }
  }

  async function uploaded() {
    try {
      set({ mask: maskText(await pixelsOfPicture(file.files[0], [height, width]), regions) });
    } catch (error) {
      say(error.message);
    }
    file.value = "";
  }

  panel.canvas.addEventListener("pointerdown", (event) => {
    if (mode === null) return;
    event.preventDefault();
    panel.canvas.setPointerCapture(event.pointerId);
    stroke = new Set(pixels);
    dab(event);
  });
  panel.canvas.addEventListener("pointermove", (event) => stroke && dab(event));
  panel.canvas.addEventListener("pointerup", () => {
    if (!stroke) return;
    const drawn = [...stroke].sort((a, b) => a - b);
    stroke = null;
    set({ mask: drawn.length ? maskText(drawn, regions) : null });
  });

  const told = (n) => (n ? `${n} of ${height * width} pixels` : "no pixel is chosen");
  return {
    element: make("fieldset", { class: "mask" }, make("legend", {}, "Mask"),
      make("div", { class: "row" }, buttons, clear, make("label", { class: "control" }, make("span", {}, "Brush: ", wide), size)),
      make("div", { class: "row" }, region, make("label", { class: "control" }, make("span", {}, "Pixels, or rows:columns"), numbers)),
      make("label", { class: "control" }, make("span", {}, `PNG, black and white, ${width} × ${height}`), file), count, used),
    show(text) {
      pixels = new Set(pixelsOf(text, regions, height * width) ?? []);
      panel.outline(pixels.size ? field([...pixels], height, width) : null, height, width);
      count.textContent = told(pixels.size);
      region.querySelector("select").value = regions[text] ? text : "";
      if (document.activeElement !== numbers) numbers.value = regions[text] ? "" : (text ?? "");
      const value = regions[text] ? `mask = "${text}"` : `mask = { pixels = [${[...pixels].join(", ")}] }`;
      used.replaceChildren(...(pixels.size ? [make("p", { class: "told" }, "To compute with this mask, write it into a stage of the definition; nothing is sampled again for it:"), code(value)] : []));
    },
  };
}

function numbered(text, height, width) {
  const box = text.match(/^\s*(\d+):(\d+)\s*,\s*(\d+):(\d+)\s*$/);
  if (box) {
    const [y0, y1, x0, x1] = box.slice(1).map(Number);
    if (y1 > height || x1 > width || y0 >= y1 || x0 >= x1) throw new Error(`Rows ${y0}:${y1} and columns ${x0}:${x1} are not within ${height} × ${width}.`);
    return Array.from({ length: (y1 - y0) * (x1 - x0) }, (_, i) => (y0 + Math.floor(i / (x1 - x0))) * width + x0 + (i % (x1 - x0)));
  }
  const parts = text.split(/[\s,]+/).filter(Boolean);
  const pixels = parts.map(Number);
  const wrong = parts.find((_, i) => !Number.isInteger(pixels[i]) || pixels[i] < 0 || pixels[i] >= height * width);
  if (wrong !== undefined) throw new Error(`"${wrong}" is no pixel; they are numbered y × ${width} + x, 0 to ${height * width - 1}.`);
  return [...new Set(pixels)].sort((a, b) => a - b);
}
