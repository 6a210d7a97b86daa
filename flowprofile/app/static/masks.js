// Masks in the browser: the pixels an address names, and the share of every cell of a layer's grid that they cover.

/** Pixels of a mask as an address says it: a region's name, or numbers y * width + x below `size`; null for no mask. */
export function pixelsOf(text, regions, size) {
  if (!text) return null;
  if (regions && Object.hasOwn(regions, text)) return regions[text];
  const numbers = text.split(",").map((part) => (/^\d{1,9}$/.test(part.trim()) ? Number(part) : -1));
  if (numbers.every((n) => n >= 0 && n < size)) return [...new Set(numbers)].sort((a, b) => a - b);
  return null;
}

/** A mask as an address says it, by its name where it is a region's. */
export function maskText(pixels, regions) {
  const text = pixels.join(",");
  return Object.entries(regions ?? {}).find(([, each]) => each.join(",") === text)?.[0] ?? text;
}

/** The mask that a stored object is of, in words; the rows of a volume have numbers only, whose name is looked up. */
export function maskNamed({ mask, leading }, regions) {
  const rows = leading.find(({ name }) => name === "pixel")?.values;
  const known = regions ?? {};
  const pixels = rows ?? (Object.hasOwn(known, mask) ? known[mask] : null);
  const name = rows ? Object.keys(known).find((each) => known[each].join() === rows.join()) : mask;
  if (!pixels) return name ? `mask: ${name}` : "";
  return `${pixels.length} pixel${pixels.length === 1 ? "" : "s"}${name ? `: ${name}` : ""}`;
}

/** Booleans [y x] of pixels. */
export function field(pixels, height, width) {
  const mask = new Uint8Array(height * width);
  for (const pixel of pixels) if (pixel < mask.length) mask[pixel] = 1;
  return mask;
}

/** The share of every cell of another grid that a mask covers, exact in area, so that means stay means. */
export function resampled(mask, [height, width], [h, w]) {
  if (height === h && width === w) return Float32Array.from(mask);
  const rows = overlaps(height, h);
  const columns = overlaps(width, w);
  const out = new Float32Array(h * w);
  for (let y = 0; y < h; y += 1) for (let x = 0; x < w; x += 1) {
    let sum = 0;
    for (const [a, share] of rows[y]) for (const [b, part] of columns[x]) sum += share * part * mask[a * width + b];
    out[y * w + x] = sum;
  }
  return out;
}

function overlaps(old, now) {
  const size = old / now;
  return Array.from({ length: now }, (_, i) => {
    const found = [];
    for (let a = Math.floor(i * size); a < Math.min(old, Math.ceil((i + 1) * size)); a += 1) {
      found.push([a, (Math.min(a + 1, (i + 1) * size) - Math.max(a, i * size)) / size]);
    }
    return found;
  });
}

/** The pixels of a two-valued picture, refused in words where it is none or has another size. */
export async function pixelsOfPicture(file, [height, width]) {
  if (file.size > 2 ** 20) throw new Error("The picture is larger than 1 MB; a mask of this size takes a few kilobytes.");
  const image = await createImageBitmap(file);
  if (image.width !== width || image.height !== height) throw new Error(`The picture is ${image.width} × ${image.height}, the image ${width} × ${height}.`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const light = Array.from({ length: width * height }, (_, i) => (data[4 * i + 3] ? data[4 * i] : 0));
  if (!light.every((v) => v < 32 || v > 223)) throw new Error("The picture has grays; a mask is black and white.");
  const pixels = light.flatMap((v, i) => (v > 223 ? [i] : []));
  if (!pixels.length) throw new Error("The picture has no white pixel.");
  return pixels;
}
