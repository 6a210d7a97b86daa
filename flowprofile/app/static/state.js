// The address is the whole view: what is shown is read from it, and every change is written to it.

/** Every view, in order, with its name in the address. */
export const VIEWS = {
  sample: "Sample", activations: "Activations", attention: "Attention", gradients: "Gradients",
  measures: "Measures", compare: "Compare", sweep: "Sweep", run: "Run",
};
const ORDER = ["run", "intervention", "label", "seed", "time", "channel", "show", "layer", "mask", "colour"];
const COMMON = ["run", "intervention", "label", "seed", "time", "mask"];
const PACE = 400;
const listeners = [];
let now = written();
let said = 0;
let later = null;

/** The view and the parameters that are shown. */
export function read() {
  return now;
}

/** The view and the parameters that the address names. */
function written() {
  const view = location.pathname.replace(/^.*\//, "").replace(/\.html$/, "");
  const exported = location.hash.startsWith("#/");
  const [path, query] = exported ? location.hash.slice(2).split("?") : [view, location.search.slice(1)];
  return { view: path && path !== "index" ? path : "sample", params: new URLSearchParams(query || "") };
}

/** The address of a view with these parameters, in one order, so that equal views have equal addresses. */
export function address(view, params) {
  const sorted = new URLSearchParams();
  const names = [...new Set(params.keys())];
  const known = [...ORDER.filter((name) => names.includes(name)), ...names.filter((name) => !ORDER.includes(name))];
  for (const name of known) for (const value of params.getAll(name)) sorted.append(name, value);
  const query = sorted.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  const path = `/${view}${query ? `?${query}` : ""}`;
  return window.flowprofileExport ? `#${path}` : path;
}

/** Change parameters (null takes one away, a list gives several) and say which; `push` makes a step of the history. */
export function set(changes, { view = null, push = false } = {}) {
  const params = new URLSearchParams(now.params);
  const changed = [];
  for (const [name, value] of Object.entries(changes)) {
    const before = params.getAll(name).join("\n");
    params.delete(name);
    for (const each of Array.isArray(value) ? value : [value]) if (each !== null && each !== undefined && each !== "") params.append(name, each);
    if (params.getAll(name).join("\n") !== before) changed.push(name);
  }
  if (view !== null && view !== now.view) changed.push("view");
  if (!changed.length) return;
  if (push) say("replaceState");
  now = { view: view ?? now.view, params };
  if (push) say("pushState");
  else saySoon();
  for (const listen of listeners) listen(changed);
}

/** What every view has in common: the case, its state, and the mask. */
export function common() {
  const kept = new URLSearchParams();
  for (const name of COMMON) if (now.params.get(name)) kept.set(name, now.params.get(name));
  return kept;
}

/** Open another view, with what it has in common with this one. */
export function visit(view) {
  const own = [...now.params.keys()].filter((name) => !COMMON.includes(name));
  set(Object.fromEntries(own.map((name) => [name, null])), { view, push: true });
}

/** Write the address now, which browsers allow two or three times a second: a slider that is dragged moves more often. */
function say(how) {
  clearTimeout(later);
  later = null;
  delete document.documentElement.dataset.unsaid;
  said = Date.now();
  history[how](null, "", address(now.view, now.params));
}

function saySoon() {
  if (later !== null) return;
  const wait = said + PACE - Date.now();
  if (wait <= 0) return say("replaceState");
  document.documentElement.dataset.unsaid = "true";
  later = setTimeout(() => say("replaceState"), wait);
}

/** Call a function with the names of the parameters that changed. */
export function listen(heard) {
  listeners.push(heard);
  const all = () => {
    now = written();
    heard(["view"]);
  };
  addEventListener("popstate", all);
  addEventListener("hashchange", all);
}
