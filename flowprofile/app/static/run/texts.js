// Values of a definition as people type them, and numbers as people read them.

/** Seeds as "0:4", or as a list where they have gaps. */
export function seedsText(seeds) {
  if (!Array.isArray(seeds)) return seeds === undefined || seeds === null ? "" : String(seeds);
  const run = seeds.every((seed, i) => i === 0 || seed === seeds[i - 1] + 1);
  return run && seeds.length ? `${seeds[0]}:${seeds.at(-1) + 1}` : seeds.join(", ");
}

/** "0:4" as it is, anything else as a list of numbers. */
export function seedsOf(text) {
  return /^\s*\d+\s*:\s*\d+\s*$/.test(text) ? text.replaceAll(/\s/g, "") : numbersOf(text, "whole numbers of at least 0, or a range such as 0:4");
}

/** Which states are kept: "::50", "1000, 500, 0" or "exponential 20". */
export function keepText(keep) {
  if (keep === undefined || keep === null) return "";
  if (Array.isArray(keep)) return keep.join(", ");
  return typeof keep === "object" ? `exponential ${keep.exponential}` : String(keep);
}

/** The same, read again. */
export function keepOf(text) {
  const slice = text.trim();
  const growing = slice.match(/^exponential\s+(\d+)$/);
  if (growing) return { exponential: Number(growing[1]) };
  return slice.includes(":") ? slice : numbersOf(text, "states such as 1000, 500, 0, a slice such as ::50, or exponential 20");
}

/** Numbers between commas or blanks; `told` is what they should be, for the refusal. */
export function numbersOf(text, told = "numbers between commas") {
  const parts = text.split(/[\s,]+/).filter(Boolean);
  const numbers = parts.map(Number);
  const wrong = parts.find((_, i) => !Number.isFinite(numbers[i]));
  if (wrong !== undefined) throw new Error(`“${wrong}” is no number; give ${told}.`);
  return numbers;
}

/** Names between commas. */
export function namesOf(text) {
  return text.split(",").map((name) => name.trim()).filter(Boolean);
}

/** Whether a name is meant by a glob. */
export function meant(glob, name) {
  const letters = [...glob].map((c) => (c === "*" ? ".*" : c === "?" ? "." : c.replace(/[.+^${}()|\\]/, "\\$&")));
  try {
    return new RegExp(`^${letters.join("").replaceAll("[!", "[^")}$`).test(name);
  } catch {
    return false;
  }
}

/** A count with its thousands. */
export function count(value) {
  return value.toLocaleString("en");
}

/** A count and what is counted, in the right number. */
export function counted(value, name) {
  return `${count(value)} ${name}${value === 1 ? "" : "s"}`;
}

/** Bytes for people. */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  let size = value;
  while (size >= 1024 && place < units.length - 1) [size, place] = [size / 1024, place + 1];
  return `${place ? size.toFixed(1) : Math.round(size)} ${units[place]}`;
}

/** Seconds for people. */
export function duration(seconds) {
  if (seconds < 1) return "under 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${(seconds / 86400).toFixed(1)} days`;
}
