// One side of a comparison: its picture, and the map of what it has different from the first side.

import { number } from "app/dom.js";
import { picture } from "app/half.js";
import { sizeOf } from "app/maps.js";
import { Panel } from "app/panel.js";
import { blocks, json } from "app/source.js";

/** One side, with its panel and, beside the first, the panel of the difference. */
export class Side {
  constructor(told, side, first, words) {
    this.told = told;
    this.words = words;
    this.panel = new Panel({ ...told, title: words });
    const unit = told.image ? "pixel value" : told.unit;
    this.difference = first ? new Panel({ ...told, image: false, unit, title: `${words.split(":")[0]} minus side 1` }) : null;
    this.command = side.command;
  }

  /** The numbers of a state: all colours of an image, one channel of a map; null where it is not stored. */
  async planes(t, channel, signal) {
    if (this.told.missing[t] !== undefined || !this.told.times.includes(t)) return null;
    const [block] = await blocks(this.told, [t], { channel: this.told.whole ? null : channel, signal });
    if (!block) return null;
    if (this.told.image) return Array.from({ length: block.shape[0] }, (_, c) => picture(block, c));
    return [picture(block, this.told.whole ? channel : 0)];
  }

  /** Draw the side's own picture, on the scale that all sides share. */
  draw(planes, range, t, channel, channels) {
    if (!planes) return this.panel.miss(`The state t = ${t} of this side is not computed.`, this.command);
    const place = channels > 1 ? `, channel ${channel} of ${channels}` : "";
    if (this.told.image) return this.panel.draw({ values: planes, planes, range: this.told.range, told: `t = ${t}` });
    return this.panel.draw({ values: planes[0], range, told: `t = ${t}${place}` });
  }

  /** What this side has beyond the first: of an image the mean over its colours. */
  apart(planes, first) {
    if (!planes || !first) return null;
    const values = new Float32Array(planes[0].length);
    planes.forEach((plane, c) => plane.forEach((value, i) => { values[i] += (value - first[c][i]) / planes.length; }));
    let [low, high, sum] = [Infinity, -Infinity, 0];
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
      sum += value * value;
    }
    return { values, low, high, root: Math.sqrt(sum / values.length) };
  }

  /** Draw the difference on a scale of its own that is centred at 0: beside a strong one a weak one would be blank. */
  drawApart(found, t) {
    if (!found) return this.difference.miss("One of the two is not computed.", this.command);
    const far = Math.max(1e-12, -found.low, found.high);
    const colours = this.told.image && sizeOf(this.told) > 1 ? ", mean over colours" : "";
    return this.difference.draw({ values: found.values, range: { low: -far, high: far }, told: `t = ${t}${colours}, root mean square ${number(found.root, 3)}${this.told.image ? " in pixel values" : ""}` });
  }
}

/** The least and the largest value of each channel over all sides and states, so that colours mean the same. */
export async function spread(panels) {
  if (panels[0].image) return { low: [], high: [] };
  const found = (await Promise.all(panels.map((panel) => json("limits", new URLSearchParams(panel.block))))).filter((each) => each.low);
  const over = (of, pick) => (found.length ? found[0][of].map((_, c) => pick(...found.map((each) => each[of][c]))) : []);
  return { low: over("low", Math.min), high: over("high", Math.max) };
}
