// What the server must be shown with every question, where it asks for it.

import { make } from "app/dom.js";

const KEY = "flowprofile-token";
const SHAPE = /^[A-Za-z0-9_-]{16,}$/;
let token = fromAddress() ?? stored();

// An address that is pasted into an open page changes only what is behind its "#".
addEventListener("hashchange", (event) => {
  const found = fromAddress();
  if (!found) return;
  event.stopImmediatePropagation();
  token = found;
  location.reload();
});

/** The headers that show it. */
export function known() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** A field for the token, for people whose address had none or an old one. */
export function tokenField() {
  const wrong = make("p", { class: "wrong", role: "alert" });
  const field = make("input", { id: "token", name: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const used = (event) => {
    event.preventDefault();
    const given = field.value.trim().replace(/^.*#token=/, "");
    if (!SHAPE.test(given)) {
      wrong.textContent = "A token has at least 16 letters, digits, - and _.";
      return;
    }
    token = keep(given);
    location.reload();
  };
  return make("form", { class: "refusal", on: { submit: used } },
    make("h2", {}, "This server asks for a token."),
    make("p", {}, "It stands in the address that the server printed when it was started, behind “#token=”. Paste it, or that address, here:"),
    make("p", {}, make("label", { for: "token" }, "Token "), field, " ", make("button", { type: "submit", class: "main" }, "Show the store")), wrong);
}

/** From behind the "#", which is sent to nobody; it leaves the address, since addresses are copied. */
function fromAddress() {
  const found = location.hash.match(/^#token=([A-Za-z0-9_-]+)$/)?.[1] ?? null;
  if (!found) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return keep(found);
}

/** Kept for this address and port alone, in every tab; a frame may not be allowed to keep anything. */
function keep(found) {
  try {
    localStorage.setItem(KEY, found);
  } catch {
    // It is known as long as the page is open.
  }
  return found;
}

function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}
