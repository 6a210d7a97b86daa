// The keyboard: everything that is moved often has a key.

import { make } from "app/dom.js";
import { seedBeside, step } from "app/controls.js";
import { set, VIEWS, visit } from "app/state.js";

const KEYS = [
  ["← →", "one kept state towards noise, towards the image"],
  ["Home End", "the first kept state, the last"],
  ["↓ ↑", "previous channel, next"],
  ["[ ]", "previous seed, next"],
  ["1 … 8", "the views, in their order"],
  ["Space", "play and stop"],
  ["?", "this list"],
];

/** Listen to the keys, except where somebody types or moves a control. */
export function listenToKeys(app) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open], .plot")) return;
    if (event.key === " " && event.target.closest("button, a, summary")) return;
    const does = {
      ArrowLeft: () => step(app, "time", -1), ArrowRight: () => step(app, "time", 1),
      Home: () => step(app, "time", -Infinity), End: () => step(app, "time", Infinity),
      ArrowDown: () => step(app, "channel", -1), ArrowUp: () => step(app, "channel", 1),
      "[": () => set({ seed: seedBeside(app, -1) }), "]": () => set({ seed: seedBeside(app, 1) }),
      "?": () => showHelp(), " ": () => document.getElementById("play")?.click(),
    }[event.key];
    const view = Object.keys(VIEWS)[Number(event.key) - 1];
    if (does) does();
    else if (view && (view !== "run" || app.catalogue.runs_allowed)) visit(view);
    else return;
    event.preventDefault();
  });
}

/** The list of keys. */
export function showHelp() {
  const dialog = document.getElementById("help");
  const rows = KEYS.map(([keys, told]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, keys)), make("td", {}, told)));
  dialog.replaceChildren(make("h2", { id: "help-title" }, "Keys"), make("table", {}, make("tbody", {}, rows)),
    make("p", {}, "On a picture, arrows move the pixel whose value is told."),
    make("button", { type: "button", on: { click: () => dialog.close() } }, "Close"));
  dialog.showModal();
}
