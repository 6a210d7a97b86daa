// The page: what there is to choose from, which view is open, and how the address, controls and keys move it.

import { drawControls } from "app/controls.js";
import { code, copy, make, say } from "app/dom.js";
import { listenToKeys, showHelp } from "app/keys.js";
import { among, showNotes, unmet } from "app/notes.js";
import { catalogue, forget, silence } from "app/source.js";
import { address, common, listen, read, set, VIEWS, visit } from "app/state.js";
import { drawTheme } from "app/theme.js";
import { tokenField } from "app/token.js";

const main = document.getElementById("view");
const VIEW = { view: among(Object.keys(VIEWS), "sample is shown") };
const notes = make("div", { class: "unmet", role: "status" });
const app = { catalogue: null, run: null, handle: null, set, read, busy, reload, move, tell };
let opening = 0;
let pending = 0;
let looking = false;

/** Keep the page marked as not ready while something is on its way: tests and saved pictures wait for it. */
function busy(work) {
  pending += 1;
  delete document.documentElement.dataset.ready;
  return Promise.resolve(work).finally(() => {
    pending -= 1;
    if (!pending) document.documentElement.dataset.ready = "true";
  });
}

/** Read anew what the store holds, and draw the view again. */
async function reload() {
  app.catalogue = await catalogue();
  await open();
}

/** Who comes back to this tab sees what the stores hold by now; nothing is asked while nobody looks. */
async function lookAgain() {
  if (looking || !app.catalogue || document.visibilityState !== "visible") return;
  looking = true;
  try {
    const found = await catalogue({ known: true });
    if (found) await renew(found);
  } catch (error) {
    if (!error.told) throw error; // Who does not answer is said to be silent as soon as something is asked for.
  } finally {
    looking = false;
  }
}

/** Draw the view over what the stores hold by now, where one was in it. */
async function renew(found) {
  const [place, focused] = [window.scrollY, main.contains(document.activeElement) ? document.activeElement.id : ""];
  app.catalogue = found;
  forget();
  if (app.handle?.renew) {
    await app.handle.renew();
    drawControls(app);
  } else {
    await open();
    window.scrollTo(0, place);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }
  say("The store has changed; this is what it holds by now.");
}

async function open() {
  const turn = (opening += 1);
  const { view, params } = read();
  const name = Object.hasOwn(VIEWS, view) ? view : "sample";
  app.run = app.catalogue.runs.find((run) => run.name === params.get("run")) ?? app.catalogue.runs[0];
  app.handle?.close?.();
  app.handle = null;
  document.title = `${VIEWS[name]} · ${app.run.model.name ?? app.run.name} · FlowProfile`;
  drawViews(name);
  const root = make("div", { class: `view view-${name}` });
  try {
    const { open: opened } = await import(`app/views/${name}.js`).catch((error) => {
      throw error instanceof TypeError ? silence() : error; // What is no script says SyntaxError.
    });
    const handle = await opened(root, app);
    if (turn !== opening) return handle?.close?.();
    app.handle = handle;
    main.replaceChildren(notes, root);
    drawControls(app);
    await handle.move?.(["time", "channel"]);
    tell();
  } catch (error) {
    if (turn !== opening) return;
    drawControls(app);
    main.replaceChildren(refusal(error));
  }
}

/** Move the open view if it can show the change by itself; else open it anew. */
async function move(changed) {
  const moves = app.handle?.moves ?? [];
  if (changed.every((name) => moves.includes(name))) {
    drawControls(app);
    await app.handle.move(changed);
    return tell();
  }
  await open();
}

/** Say what the address asks for and the view does not have. */
function tell() {
  const { words = {}, notes: said = [] } = app.handle ?? {};
  const { view, params } = read();
  const strange = unmet(VIEW, new URLSearchParams({ view })); // an exported folder's address may name any
  showNotes(notes, [...strange, ...unmet(words, params), ...said]);
}

function refusal(error) {
  if (error.status === 401) return tokenField();
  const told = error.told ?? { fact: String(error.message ?? error) };
  if (!error.told) console.error(error);
  return make("section", { class: "refusal", role: "alert" }, make("h2", {}, told.fact),
    told.consequence ? make("p", {}, told.consequence) : null,
    told.remedy ? make("p", {}, make("strong", {}, "To mend it: "), told.remedy) : null,
    told.evidence ? make("p", {}, make("strong", {}, "Seen: "), told.evidence) : null);
}

function drawViews(open) {
  const names = Object.keys(VIEWS).filter((name) => name !== "run" || app.catalogue.runs_allowed);
  document.getElementById("views").replaceChildren(...names.map((name) => make("a", {
    href: address(name, common()), "aria-current": name === open ? "page" : null,
    on: { click: (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      visit(name);
    } },
  }, VIEWS[name])));
}

function drawTools() {
  const button = (text, does, told) => make("button", { type: "button", title: told, on: { click: does } }, text);
  document.getElementById("tools").replaceChildren(
    button("Link", () => copy(new URL(address(read().view, read().params), location).href), "Copy the address of this view"),
    button("Python", () => showPython(), "The xarray expression of this view"),
    button("PNG", () => app.handle?.png?.() ?? say("This view has no picture to save."), "Save this view as a picture"),
    button("CSV", () => app.handle?.csv?.() ?? say("This view has no table to save."), "Save the numbers shown"),
    drawTheme(),
    button("?", () => showHelp(), "Keys"),
  );
}

function showPython() {
  const text = app.handle?.python?.();
  if (!text) return say("This view has no expression.");
  const dialog = document.getElementById("help");
  dialog.replaceChildren(make("h2", { id: "help-title" }, "This view in Python"), code(text),
    make("button", { type: "button", on: { click: () => dialog.close() } }, "Close"));
  dialog.showModal();
  return copy(text);
}

// Before the store is known there is nothing to move: it is opened at whatever the address is by then.
listen((changed) => app.catalogue && busy(move(changed)));
for (const [place, name] of [[window, "focus"], [document, "visibilitychange"]]) place.addEventListener(name, () => busy(lookAgain()));
listenToKeys(app);
drawTools();
busy(reload().then(() => {
  const store = document.getElementById("store");
  store.textContent = app.catalogue.store;
  store.title = app.catalogue.store;
})).catch((error) => main.replaceChildren(refusal(error)));
