// Variables whose channels are colours.

import { picture } from "app/half.js";

/** What they are called. */
export const TITLES = { x_t: "Sample x_t", x0_hat: "Predicted x_0", image: "Decoded image" };

/** The colours of a block, and the same as the values that are told under the pointer. */
export function planesOf(block) {
  const planes = Array.from({ length: block.shape[0] }, (_, c) => picture(block, c));
  return { planes, values: planes };
}
