// Labels of a model as people choose them: attributes by name, classes by number, prompts as text.

import { make } from "app/dom.js";

const MANY = 64;

/** The names of a label's attributes, of a number, a bit string or a list of names. */
export function namesOfLabel(label, attributes) {
  if (Array.isArray(label)) return label;
  const bits = bitsOf(label, attributes);
  return bits === null ? String(label).split("+").map((name) => name.trim()) : attributes.filter((_, i) => bits[i] === "1");
}

function bitsOf(label, attributes) {
  const text = String(label);
  if (typeof label === "number") return label.toString(2).padStart(attributes.length, "0");
  if (/^[01]+$/.test(text) && text.length === attributes.length) return text;
  return /^\d+$/.test(text) ? Number(text).toString(2).padStart(attributes.length, "0") : null;
}

function toBits(names, attributes) {
  return attributes.map((name) => (names.includes(name) ? "1" : "0")).join("");
}

/** What a label is called: "0110: male, smile". */
export function labelTold(label, { attributes }) {
  if (!attributes.length) return String(label);
  const names = namesOfLabel(label, attributes);
  return `${toBits(names, attributes)}: ${names.join(", ") || "none of them"}`;
}

/** Every label of a model, as a definition writes it; none where there are too many to list. */
function all({ attributes, classes }) {
  const total = attributes.length ? 2 ** attributes.length : classes;
  if (!total || total > MANY) return [];
  return Array.from({ length: total }, (_, n) => (attributes.length ? n.toString(2).padStart(attributes.length, "0") : n));
}

/** Several labels: one row of named checkboxes each, or a box for every class. Returns elements. */
export function labelRows(value, changed, space, title) {
  if (space.prompts) return [prompts(value, changed, title)];
  if (!space.attributes.length) return [classes(value, changed, space)];
  let labels = value === "all" ? all(space) : (value ?? []).map((label) => toBits(namesOfLabel(label, space.attributes), space.attributes));
  const rows = make("div", { class: "labels" });
  const put = (next) => {
    labels = next;
    changed(labels.length ? labels : undefined);
    draw();
  };
  const draw = () => rows.replaceChildren(...labels.map((label, i) => row(label, i)),
    make("button", { type: "button", on: { click: () => put([...labels, labels.at(-1) ?? "0".repeat(space.attributes.length)]) } }, "Add a label"));
  const row = (label, i) => make("fieldset", { class: "row" }, make("legend", {}, `Label ${label}`),
    space.attributes.map((name, bit) => check(name, label[bit] === "1", (on) => put(labels.map((each, j) => (j === i ? flipped(each, bit, on) : each))))),
    make("button", { type: "button", "aria-label": `Take label ${label} away`, on: { click: () => put(labels.filter((_, j) => j !== i)) } }, "×"));
  draw();
  return [rows];
}

function flipped(bits, at, on) {
  return [...bits].map((bit, i) => (i === at ? (on ? "1" : "0") : bit)).join("");
}

function classes(value, changed, { classes: total }) {
  const chosen = new Set(value === "all" ? Array.from({ length: total }, (_, n) => n) : [value ?? []].flat().map(Number));
  if (total > MANY) return numbers(value, changed);
  return make("div", { class: "row" }, Array.from({ length: total }, (_, n) => check(String(n), chosen.has(n), (on) => {
    if (on) chosen.add(n);
    else chosen.delete(n);
    changed(chosen.size ? [...chosen].sort((a, b) => a - b) : undefined);
  })));
}

function numbers(value, changed) {
  const input = make("input", { type: "text", "aria-label": "Numbers of classes", value: [value ?? []].flat().join(", "), on: { input: () => changed(input.value.split(/[\s,]+/).filter(Boolean).map(Number)) } });
  return input;
}

function prompts(value, changed, title) {
  const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
  const area = make("textarea", { rows: 3, "aria-label": `${title}, one prompt on each line`, on: { input: () => changed(lines(area.value).length ? lines(area.value) : undefined) } });
  area.value = [value ?? []].flat().join("\n");
  return area;
}

/** One label, or none; an input to be labelled. */
export function labelPicker(value, changed, space, none) {
  const labels = all(space);
  if (!labels.length) {
    const input = make("input", { type: "text", value: value ?? "", on: { input: () => changed(input.value === "" ? undefined : space.prompts ? input.value : Number(input.value)) } });
    return input;
  }
  const select = make("select", { on: { change: () => changed(select.value === "" ? undefined : labels[Number(select.value)]) } },
    make("option", { value: "" }, none), labels.map((label, i) => make("option", { value: i }, labelTold(label, space))));
  const now = value === undefined ? -1 : labels.findIndex((label) => labelTold(label, space) === labelTold(value, space));
  select.value = now < 0 ? "" : String(now);
  return select;
}

/** A checkbox with its name. */
export function check(name, on, changed) {
  const box = make("input", { type: "checkbox", checked: on, on: { change: () => changed(box.checked) } });
  return make("label", { class: "check" }, box, name);
}
