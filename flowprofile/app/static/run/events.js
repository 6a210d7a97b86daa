// The events of a run as they are said, over a connection that may be lost: then they go on from where they were.

import { json, Refusal, stream } from "app/source.js";

const PAUSES = [500, 1000, 2000, 4000];
// The server says something at least every 15 seconds.
const SILENT = 40_000;

/** Hear a run until it ends: `heard` gets every event once, `lost` and `found` say that nobody answers and that somebody
 *  does again, `gone` gets the refusal where the server does not know the run any more. Gives what ends the listening. */
export function hear(job, { heard, lost, found, gone }) {
  const path = `jobs/${encodeURIComponent(job.id)}`;
  const ended = new AbortController();
  let last = -1;
  let misses = 0;

  /** Until the connection ends; true where there is no more to hear. */
  async function once() {
    const turn = new AbortController();
    const over = () => turn.abort();
    ended.signal.addEventListener("abort", over);
    let watching = setTimeout(over, SILENT);
    try {
      if (misses) await same();
      const reader = (await stream(`${path}/events`, last < 0 ? {} : { "Last-Event-ID": String(last) }, turn.signal)).body.pipeThrough(new TextDecoderStream()).getReader();
      if (misses) found();
      misses = 0;
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return false;
        clearTimeout(watching);
        watching = setTimeout(over, SILENT);
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const [number, event] of blocks.map(parsed).filter(Boolean)) {
          last = number;
          if (heard(event)) return true;
        }
      }
    } finally {
      clearTimeout(watching);
      ended.signal.removeEventListener("abort", over);
      turn.abort();
    }
  }

  /** A server that was started again counts its runs anew: another one may have this number. */
  async function same() {
    const now = await json(path, undefined, { signal: ended.signal });
    if (now.began !== job.began) throw new Refusal({ fact: `The server was started again, and knows no more of run ${job.id}.`, consequence: "What the run had stored by then stays.", remedy: "go on with it: only what is missing is computed" }, 404);
  }

  async function listen() {
    while (!ended.signal.aborted) {
      try {
        if (await once()) return;
      } catch (error) {
        if (ended.signal.aborted) return;
        // A refusal, not a server that is not there, or too busy.
        if (error.status && error.status < 500) return gone(error);
      }
      if (ended.signal.aborted) return;
      if (!misses) lost();
      misses += 1;
      await new Promise((later) => setTimeout(later, PAUSES[Math.min(misses, PAUSES.length) - 1]));
    }
  }

  listen();
  return () => ended.abort();
}

/** The number and value of one event; null for what only says that somebody is still there. */
function parsed(block) {
  const lines = Object.fromEntries(block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
  return lines.data === undefined ? null : [Number(lines.id), JSON.parse(lines.data)];
}
