// Half floats: the 65,536 numbers there are, worked out once.

const NUMBERS = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits += 1) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) NUMBERS[bits] = fraction ? NaN : sign * Infinity;
  else NUMBERS[bits] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** The picture at a place of a block, as numbers [y x]; `own` lists places that are left out. */
export function picture(block, place, own = null) {
  const [h, w] = block.shape.slice(-2);
  const size = h * w;
  const out = new Float32Array(size);
  for (let i = 0, at = place * size; i < size; i += 1, at += 1) out[i] = NUMBERS[block.values[at]] * block.scale;
  for (const at of own ?? []) out[at] = NaN;
  return out;
}

/** The sum of all pictures of a block, [y x]; of the n-th the place `own[n]` is left out. */
export function summed(block, own = null) {
  const [h, w] = block.shape.slice(-2);
  const size = h * w;
  const out = new Float32Array(size);
  for (let i = 0; i < block.values.length; i += 1) {
    if (own && own[Math.floor(i / size)] === i % size) continue;
    out[i % size] += NUMBERS[block.values[i]] * block.scale;
  }
  return out;
}

/** For each picture of a block, the sum of its values weighted by a map [y x]. */
export function weighted(block, weights) {
  const size = weights.length;
  const sums = new Float64Array(block.values.length / size);
  for (let c = 0, at = 0; c < sums.length; c += 1) {
    for (let i = 0; i < size; i += 1, at += 1) sums[c] += NUMBERS[block.values[at]] * weights[i];
  }
  return sums;
}
