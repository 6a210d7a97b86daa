// Dark and light: as the system says, until somebody chooses.

import { make } from "app/dom.js";

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

/** The button that changes it. */
export function drawTheme() {
  apply(remembered());
  system.addEventListener("change", () => apply(remembered()));
  return make("button", { type: "button", title: "Dark or light", "aria-label": "Dark or light", on: { click: turn } }, "◐");
}

/** A colour of the style sheet, for what draws by itself. */
export function colour(name) {
  return getComputedStyle(root).getPropertyValue(`--${name}`).trim();
}

function turn() {
  const next = root.dataset.theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem("flowprofile-theme", next);
  } catch {
    // A page in a frame may not keep anything; the choice then lasts as long as the page.
  }
  apply(next);
}

function remembered() {
  try {
    return localStorage.getItem("flowprofile-theme");
  } catch {
    return null;
  }
}

function apply(chosen) {
  root.dataset.theme = chosen ?? (system.matches ? "dark" : "light");
  dispatchEvent(new Event("theme"));
}
