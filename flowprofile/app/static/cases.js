// The table of cases of an exported folder: of the few there are, what the server does of many.

import { Refusal } from "app/source.js";

const FORMULA = /^[=+\-@\t\r]/;
const AXES = ["intervention", "label", "seed"];

/** The page of the table that an address asks for; `held` has every exported case with every column. */
export function tableOf(held, params) {
  const { usual, ...told } = held;
  const wanted = params.getAll("column");
  const chosen = (wanted.length ? wanted : usual).map((name) => placeOf(held, name));
  const [sort, order] = [params.get("sort") ?? "seed", params.get("order") ?? "asc"];
  const rows = sorted(held.rows.filter((row) => fits(row, params.getAll("only"))), held, sort, order);
  const [asked, most] = [Number(params.get("offset") ?? 0), Number(params.get("limit") ?? 200)];
  const offset = Math.max(0, asked < rows.length ? asked : Math.floor((rows.length - 1) / most) * most);
  const notes = offset === asked ? [] : [`The address says offset=${asked}. There are ${rows.length} cases, counted from 0; those from ${offset} on are shown.`];
  return {
    ...told, notes, sort, order, offset, cases: rows.length, columns: chosen.map((at) => held.columns[at]),
    rows: rows.slice(offset, offset + most).map((row) => ({ ...row, values: chosen.map((at) => row.values[at]), never: chosen.map((at) => row.never[at]) })),
  };
}

/** The same as CSV; a text that a spreadsheet would compute is quoted. */
export function csvOf({ columns, rows }) {
  const cell = (value) => {
    const text = typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value ?? "");
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const names = ["intervention", "label", "caption", "seed"];
  const lines = [[...names, ...columns.map(({ name }) => name)], ...rows.map((row) => [...names.map((name) => row[name]), ...row.values])];
  return lines.map((line) => `${line.map(cell).join(",")}\n`).join("");
}

function placeOf(held, name) {
  const at = held.columns.findIndex((column) => column.name === name);
  if (at < 0) throw new Refusal({ fact: `The table has no column ${name}.`, remedy: "choose one below Columns" });
  return at;
}

function fits(row, only) {
  return only.every((text) => String(row[text.slice(0, text.indexOf("="))]) === text.slice(text.indexOf("=") + 1));
}

/** Rows by a column or an axis; equal ones in the order of the axes, those without a value last either way. */
function sorted(rows, held, sort, order) {
  const names = [...new Set(held.rows.map((row) => row.intervention))];
  const at = AXES.includes(sort) ? null : placeOf(held, sort);
  const value = (row) => (at !== null ? row.values[at] : sort === "intervention" ? names.indexOf(row[sort]) : row[sort]);
  const way = order === "desc" ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [one, two] = [value(a), value(b)];
    if (one === null || two === null) return Number(one === null) - Number(two === null);
    return way * (one - two);
  });
}
