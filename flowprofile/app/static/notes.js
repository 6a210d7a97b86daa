// What an address asks for that a view does not have, and what is shown in its place, in one line each. The server says
// the same lines behind /api (`notes.py`); the page says them itself, since it moves without asking.

import { make } from "app/dom.js";

const CUT = 40;
const LISTED = 8;
const WHOLE = /^-?\d{1,15}$/;

/** A whole number of an address, or null where it says something else. */
export function wholeOf(text) {
  return WHOLE.test(text ?? "") ? Number(text) : null;
}

/** The lines for an address: `words` holds, by parameter, what says of a value what is wrong with it, or null. */
export function unmet(words, params) {
  return Object.entries(words).flatMap(([name, wrong]) => params.getAll(name).filter(Boolean).map((value) => {
    const found = wrong(value);
    return found && line(name, found.value ?? value, found.told);
  })).filter(Boolean);
}

/** Put lines at the head of a view, or take them away; what has not changed is left alone, so that it is told once. */
export function showNotes(place, lines) {
  const shown = [...place.children].map((child) => child.textContent);
  if (shown.join("\n") !== lines.join("\n")) place.replaceChildren(...lines.map((each) => make("p", {}, each)));
}

/** One of these names. */
export function among(names, usual) {
  return (value) => (names.includes(value) ? null : { told: `There ${listed(names)}; ${usual}` });
}

/** One of so many, counted from 0. */
export function below(size) {
  return (value) => {
    const number = wholeOf(value);
    if (number !== null && number >= 0 && number < size) return null;
    const shown = Math.min(Math.max(0, number ?? 0), size - 1);
    return { told: size > 1 ? `There are ${count(size)}, 0 to ${size - 1}; ${shown} is shown` : "There is one, 0; it is shown" };
  };
}

/** One of the kept states; `shown` gives the one that stands for another. */
export function kept(times, shown) {
  return (value) => {
    if (!times.length || times.includes(wholeOf(value))) return null;
    const states = times.length > 1 ? `Kept are ${count(times.length)} states, ${times[0]} to ${times.at(-1)}` : "Kept is one state";
    return { told: `${states}; t = ${shown(times, new URLSearchParams({ time: value }))} is shown` };
  };
}

/** A region's name, or pixels below `size`. */
export function masked(regions, size) {
  return (value) => {
    if (Object.hasOwn(regions, value)) return null;
    const wrong = value.split(",").map((part) => part.trim()).find((part) => !(/^\d{1,9}$/.test(part) && Number(part) < size));
    const names = Object.keys(regions).sort();
    return wrong === undefined ? null : { value: wrong, told: `There are the pixels 0 to ${size - 1}${names.length ? ` and the regions ${and(names)}` : ""}; no mask is shown` };
  };
}

/** Several names: "are a, b and 3 more". */
export function listed(names) {
  const shown = names.length > LISTED ? [...names.slice(0, LISTED), `${names.length - LISTED} more`] : names;
  return `${names.length > 1 ? "are" : "is"} ${and(shown)}`;
}

function line(name, value, told) {
  return `The address says ${name}=${value.slice(0, CUT)}${value.length > CUT ? "…" : ""}. ${told}.`;
}

function and(names) {
  return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names.at(-1)}` : names.join("");
}

function count(value) {
  return value.toLocaleString("en");
}
