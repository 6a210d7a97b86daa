// Where to look: everywhere, a named region, a rectangle, or pixels as they were drawn on a sample.

import { make } from "app/dom.js";
import { numbersOf } from "app/run/texts.js";

/** The mask an address says, as a definition writes it: a region's name or pixels; null where it says none. */
export function drawnMask(text) {
  if (!text) return null;
  return /^[\d,\s]+$/.test(text) ? { pixels: [...new Set(text.split(",").map(Number))].sort((a, b) => a - b) } : text;
}

/** What a mask is called. */
export function maskTold(mask) {
  if (mask === undefined || mask === null) return "everywhere";
  if (typeof mask === "string") return mask;
  if (mask.pixels) return mask.pixels.length === 1 ? "1 drawn pixel" : `${mask.pixels.length} drawn pixels`;
  return mask.region ? `each sample's own ${mask.region}` : JSON.stringify(mask);
}

/** The choice of a mask: [select, the entry that belongs to it]. */
export function maskChoice(spec, value, changed, about) {
  const drawn = about.drawn ?? (value?.pixels ? value : null);
  const options = [
    ["", spec.required ? "choose" : "everywhere"],
    ...(drawn?.pixels ? [["drawn", maskTold(drawn)]] : []),
    ...about.regions.map((name) => [`region ${name}`, name]),
    ...about.regions.map((name) => [`own ${name}`, `each sample's own ${name}`]),
    ["rectangle", "a rectangle"], ["pixels", "pixels by their numbers"],
    ...(kindOf(value, drawn) === "kept" ? [["kept", maskTold(value)]] : []),
  ];
  const entry = make("div", {});
  const select = make("select", { on: { change: () => choose(select.value) } }, options.map(([each, text]) => make("option", { value: each }, text)));
  select.value = kindOf(value, drawn);
  const choose = (kind) => {
    entry.replaceChildren();
    const [what, name] = kind.split(" ");
    if (what === "region") return changed(name);
    if (what === "own") return changed({ region: name, read: true });
    if (what === "drawn") return changed(drawn);
    if (what === "kept") return changed(value);
    if (what === "rectangle" || what === "pixels") return entry.replaceChildren(numbers(what, value, changed, about.shape));
    return changed(undefined);
  };
  if (["rectangle", "pixels"].includes(select.value)) entry.replaceChildren(numbers(select.value, value, changed, about.shape));
  return [select, entry];
}

function kindOf(value, drawn) {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return `region ${value}`;
  if (drawn && JSON.stringify(value) === JSON.stringify(drawn)) return "drawn";
  if (value.read) return `own ${value.region}`;
  return value.rectangle ? "rectangle" : value.pixels ? "pixels" : "kept";
}

function numbers(what, value, changed, [, height, width]) {
  const told = what === "pixels" ? `Numbers y × ${width} + x, 0 to ${height * width - 1}` : "y0, x0, y1, x1; the last row and column are outside";
  const input = make("input", {
    type: "text", "aria-label": told, placeholder: what === "pixels" ? `${width + 1}, ${width + 2}` : "0, 0, 4, 4", value: (value?.[what] ?? []).join(", "),
    on: {
      input: () => {
        try {
          input.setCustomValidity("");
          const found = numbersOf(input.value);
          changed(found.length ? { [what]: found } : undefined);
        } catch (error) {
          input.setCustomValidity(error.message);
        }
      },
    },
  });
  return make("div", {}, input, make("p", { class: "help" }, told));
}
