// Samples as pictures: colours where the channels are colours, one channel of a latent state where they are not.

import { picture } from "app/half.js";

/** What they are called. */
export const TITLES = { x_t: "Sample x_t", x0_hat: "Predicted x_0", image: "Decoded image" };

/** What a panel draws of a sample's block: its colours, or one channel on a scale of its own. */
export function sampleOf(told, block, channel) {
  if (!told.image) {
    const values = picture(block, Math.min(channel, block.shape[0] - 1));
    return { values, range: reach(values) };
  }
  const planes = Array.from({ length: block.shape[0] }, (_, c) => picture(block, c));
  return { planes, values: planes, range: told.range };
}

/** Least and largest of some numbers. */
export function reach(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { low, high };
}
