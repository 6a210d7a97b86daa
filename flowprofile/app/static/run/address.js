// What a form has different from the store's last definition, in its address: `set=cases.seeds="0:6"` for a value, which
// is JSON, and `unset=stages.fidelity` for what was taken away. So a link opens the form as it was left.

const NAME = /^[\w-]+/;
const QUOTED = /^"(?:[^"\\]|\\.)*"/;
const FORBIDDEN = ["__proto__", "constructor", "prototype"];
/** Characters of an address that a form may take; a server reads 8192 of a query. */
const ROOM = 6000;

/** What makes one definition of another, as the parameters of an address. */
export function changesOf(base, draft) {
  const found = { set: [], unset: [] };
  compared(base, draft, [], found);
  return found;
}

/** Whether they fit into an address. */
export function fits(changes) {
  return new URLSearchParams([...changes.set, ...changes.unset].map((text) => ["unset", text])).toString().length <= ROOM;
}

/** A definition with the changes of an address, and a line for each that is none. */
export function changed(base, params) {
  const draft = structuredClone(base);
  const wrong = [];
  for (const name of ["unset", "set"]) for (const text of params.getAll(name)) {
    try {
      const [path, rest] = parsed(text);
      if (name === "set") put(draft, path, JSON.parse(rest.slice(1)));
      else takeAway(draft, path);
    } catch {
      wrong.push(`The address says ${name}=${text.slice(0, 40)}. ${name === "set" ? "A setting is written as set=cases.seeds=\"0:6\"" : "What is taken away is written as unset=stages.fidelity"}; it is left out.`);
    }
  }
  return { draft, wrong };
}

function compared(base, draft, path, found) {
  for (const name of new Set([...Object.keys(base), ...Object.keys(draft)])) {
    const here = [...path, name];
    if (!Object.hasOwn(draft, name)) found.unset.push(said(here));
    else if (isTable(base[name]) && isTable(draft[name])) compared(base[name], draft[name], here, found);
    else if (JSON.stringify(base[name]) !== JSON.stringify(draft[name])) found.set.push(`${said(here)}=${JSON.stringify(draft[name])}`);
  }
}

function said(path) {
  return path.map((name) => (name.match(NAME)?.[0] === name ? name : JSON.stringify(name))).join(".");
}

/** The names of a path, and what stands behind it. */
function parsed(text) {
  const path = [];
  let rest = text;
  do {
    if (path.length) rest = rest.slice(1);
    const [found] = rest.match(NAME) ?? rest.match(QUOTED);
    const name = found.startsWith('"') ? JSON.parse(found) : found;
    if (FORBIDDEN.includes(name)) throw new Error(name);
    path.push(name);
    rest = rest.slice(found.length);
  } while (rest.startsWith("."));
  if (rest && !rest.startsWith("=")) throw new Error(rest);
  return [path, rest];
}

function put(table, path, value) {
  const [name, ...more] = path;
  if (!more.length) table[name] = value;
  else put(inner(table, name, true), more, value);
}

function takeAway(table, path) {
  const [name, ...more] = path;
  if (!more.length) delete table[name];
  else if (Object.hasOwn(table, name)) takeAway(inner(table, name), more);
}

function inner(table, name, made = false) {
  if (made && !Object.hasOwn(table, name)) table[name] = {};
  if (!isTable(table[name])) throw new Error(name);
  return table[name];
}

function isTable(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}
