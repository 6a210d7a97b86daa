// Elements, made from text: what comes from a store is text and never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; texts become text nodes, `on` holds listeners, null is left out. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same in a drawing. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, { on = {}, dataset = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  Object.assign(element.dataset, dataset);
  for (const [event, heard] of Object.entries(on)) element.addEventListener(event, heard);
  for (const child of children.flat()) if (child !== null && child !== undefined) element.append(child);
  return element;
}

/** A select with its label: options are [value, text]. */
export function picker(name, label, options, value, chosen) {
  const select = make("select", { id: name, name, on: { change: () => chosen(select.value) } },
    options.map(([each, text]) => make("option", { value: each }, text)));
  select.value = value;
  return make("label", { class: "control" }, make("span", {}, label), select);
}

/** What is not there, and the command that computes it. */
export function notComputed(command, told = "Not computed.") {
  return make("div", { class: "missing" }, make("p", {}, told),
    command ? make("p", {}, "This computes it:") : null, command ? code(command) : null);
}

/** Text to copy. */
export function code(text) {
  const button = make("button", { type: "button", on: { click: () => copy(text) } }, "Copy");
  return make("div", { class: "code" }, make("pre", { tabindex: "0", role: "region", "aria-label": "Text to copy" }, text), button);
}

/** Put text on the clipboard, and say so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    prompt("Copy this:", text);
  }
}

/** Say something at the foot of the page, to people who look and to those who listen. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** Save a text or a blob as a file. */
export function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A number as people read it: four significant digits, a true minus sign. */
export function number(value, digits = 4) {
  if (value === null || !Number.isFinite(value)) return "–";
  const text = Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-4) ? value.toExponential(digits - 2) : String(+value.toPrecision(digits));
  return text.replaceAll("-", "−");
}
