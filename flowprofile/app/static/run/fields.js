// One setting as a field: what the server says of it decides how it is entered.

import { make } from "app/dom.js";
import { check, labelPicker, labelRows } from "app/run/labels.js";
import { maskChoice } from "app/run/mask.js";
import { keepOf, keepText, meant, namesOf, numbersOf, seedsOf, seedsText } from "app/run/texts.js";

let made = 0;

/** The field of a setting; `changed` gets its value, or undefined where it is left at its default. */
export function field(spec, value, changed, about) {
  const draws = KINDS[spec.kind] ?? text;
  return draws(spec, value ?? undefined, changed, about);
}

/** Fields of a table; `changed` gets the table without what is left at its default. */
export function table(specs, value, changed, about) {
  let now = { ...value };
  return specs.map((spec) => field(spec, now[spec.name], (next) => {
    now = { ...now, [spec.name]: next };
    if (next === undefined) delete now[spec.name];
    changed(now);
  }, about));
}

/** An input with its label, its help, and room for what is wrong with it. */
function labelled(spec, input, ...more) {
  const id = `field-${(made += 1)}`;
  input.id = id;
  const help = spec.help ? make("p", { class: "help", id: `${id}-help` }, spec.help) : null;
  if (help) input.setAttribute("aria-describedby", help.id);
  if (spec.required) input.setAttribute("aria-required", "true");
  return make("div", { class: "field", dataset: { name: spec.name } }, make("label", { for: id }, spec.title), input, ...more, help);
}

function grouped(spec, ...content) {
  return make("fieldset", { class: "field", dataset: { name: spec.name } }, make("legend", {}, spec.title), ...content, spec.help ? make("p", { class: "help" }, spec.help) : null);
}

/** A text that is read into a value; what cannot be read is said beside it, and nothing changes. */
function typed(spec, shown, reads, changed, attributes = {}) {
  const wrong = make("p", { class: "wrong", role: "alert" });
  const told = spec.default === null || spec.default === undefined ? "" : String(keepText(spec.default));
  const input = make("input", { type: "text", value: shown, placeholder: told, ...attributes, on: {
    input: () => {
      try {
        const value = input.value.trim() === "" ? undefined : reads(input.value);
        input.removeAttribute("aria-invalid");
        wrong.textContent = "";
        changed(value);
      } catch (error) {
        input.setAttribute("aria-invalid", "true");
        wrong.textContent = error.message;
      }
    },
  } });
  return labelled(spec, input, wrong);
}

function text(spec, value, changed) {
  const list = spec.options ? make("datalist", { id: `list-${(made += 1)}` }, spec.options.map((each) => make("option", { value: each }))) : null;
  const element = typed(spec, value ?? "", (written) => written, changed, list ? { list: list.id } : {});
  if (list) element.append(list);
  return element;
}

function number(spec, value, changed) {
  const limits = { type: "number", min: spec.minimum, max: spec.maximum, step: spec.whole ? 1 : "any" };
  const reads = (written) => {
    const found = Number(written);
    if (!Number.isFinite(found) || (spec.whole && !Number.isInteger(found))) throw new Error(`“${written}” is no ${spec.whole ? "whole " : ""}number.`);
    return found;
  };
  return typed(spec, value ?? "", reads, changed, limits);
}

function numbers(spec, value, changed) {
  const reads = (written) => {
    const found = numbersOf(written);
    if (spec.most && found.length > spec.most) throw new Error(`Give ${spec.most} numbers.`);
    if (spec.least && found.length < spec.least) throw new Error(`Give ${spec.least} ${spec.least === 1 ? "number" : "numbers"}.`);
    return found;
  };
  return typed(spec, [value ?? []].flat().join(", "), reads, changed);
}

function choice(spec, value, changed) {
  const open = spec.required ? [] : [make("option", { value: "" }, spec.default === null || spec.default === undefined ? "default" : `default: ${spec.default}`)];
  const select = make("select", { on: { change: () => changed(select.value === "" ? undefined : spec.options[Number(select.value)]) } },
    open, spec.options.map((each, i) => make("option", { value: i }, String(each))));
  const at = spec.options.indexOf(value);
  select.value = at < 0 ? (spec.required ? "0" : "") : String(at);
  return labelled(spec, select);
}

function flag(spec, value, changed) {
  const box = make("input", { type: "checkbox", checked: value ?? spec.default ?? false, on: { change: () => changed(box.checked === Boolean(spec.default) ? undefined : box.checked) } });
  return labelled(spec, box);
}

function checks(spec, value, changed) {
  const chosen = new Set(value ?? []);
  return grouped(spec, make("div", { class: "row" }, spec.options.map((name) => check(name, chosen.has(name), (on) => {
    if (on) chosen.add(name);
    else chosen.delete(name);
    changed(chosen.size ? spec.options.filter((each) => chosen.has(each)) : undefined);
  }))));
}

function layers(spec, value, changed, about) {
  const names = about.layers.map((layer) => layer.name);
  const told = make("p", { class: "told" });
  const shown = (value) => {
    const globs = [value ?? spec.default ?? []].flat();
    const found = about.layers.filter(({ name, listed }) => globs.some((glob) => glob === name || (listed && meant(glob, name)))).map(({ name }) => name);
    told.textContent = names.length ? `${found.length} of ${names.length} layers${found.length && found.length < 4 ? `: ${found.join(", ")}` : ""}` : "This model is a formula and has no layers.";
    return new Set(found);
  };
  const put = (next) => {
    shown(next);
    changed(next);
  };
  const reads = (written) => (namesOf(written).length === 1 ? namesOf(written)[0] : namesOf(written));
  const element = typed(spec, [value ?? []].flat().join(", "), reads, put);
  const input = element.querySelector("input");
  const list = make("details", {}, make("summary", {}, "Choose from the layers"));
  list.addEventListener("toggle", () => {
    if (!list.open) return;
    const chosen = shown(reads(input.value).length ? reads(input.value) : undefined);
    const boxes = about.layers.map((layer) => check(`${layer.name} (${layer.channels} × ${layer.y} × ${layer.x})`, chosen.has(layer.name), (on) => {
      if (on) chosen.add(layer.name);
      else chosen.delete(layer.name);
      input.value = names.filter((name) => chosen.has(name)).join(", ");
      input.dispatchEvent(new Event("input"));
    }));
    list.replaceChildren(list.firstChild, make("div", { class: "layers", role: "group", "aria-label": "Layers" }, boxes));
  });
  element.append(told, ...(names.length ? [list] : []));
  shown(value);
  return element;
}

function mask(spec, value, changed, about) {
  const [select, entry] = maskChoice(spec, value, changed, about);
  return labelled(spec, select, entry);
}

function forms(spec, value, changed, about) {
  const entry = make("div", { class: "inner" });
  const known = (form) => form.kind === "table" ? value !== null && typeof value === "object" && !Array.isArray(value) && (form.from ? value.from === form.from : !value.from) : value !== undefined && (typeof value !== "object" || Array.isArray(value));
  const only = spec.forms.length === 1 && spec.required;
  const select = make("select", { "aria-label": `Kind of ${spec.title.toLowerCase()}`, on: { change: () => choose(select.value, undefined) } },
    only ? [] : make("option", { value: "" }, spec.required ? "choose" : "default"), spec.forms.map((form, i) => make("option", { value: i }, form.title)));
  const choose = (at, held) => {
    entry.replaceChildren();
    if (at === "") return changed(undefined);
    const form = spec.forms[Number(at)];
    if (form.kind !== "table") {
      if (held === undefined) changed(undefined);
      return entry.replaceChildren(field({ ...form, name: spec.name, required: true, default: null }, held, changed, about));
    }
    const base = form.from ? { from: form.from } : {};
    if (held === undefined) changed(base);
    return entry.replaceChildren(...(form.help ? [make("p", { class: "help" }, form.help)] : []), ...table(form.fields, { ...base, ...held }, changed, about));
  };
  const at = spec.forms.findIndex(known);
  select.value = at < 0 ? (only ? "0" : "") : String(at);
  if (at >= 0) choose(String(at), value);
  else if (only) choose("0", undefined);
  return grouped(spec, only ? null : select, entry);
}

const KINDS = {
  text, number, numbers, choice, flag, checks, layers, mask, forms,
  texts: (spec, value, changed) => typed(spec, [value ?? []].flat().join(", "), namesOf, changed),
  seeds: (spec, value, changed) => typed(spec, seedsText(value), seedsOf, changed),
  keep: (spec, value, changed) => typed(spec, keepText(value), keepOf, changed),
  labels: (spec, value, changed, about) => grouped(spec, ...labelRows(value, changed, about.labels, spec.title)),
  label: (spec, value, changed, about) => labelled(spec, labelPicker(value, changed, about.labels, spec.required ? "choose" : "the case's own")),
  attributes: (spec, value, changed, about) => checks({ ...spec, options: about.labels.attributes }, [value ?? []].flat(), changed),
};
