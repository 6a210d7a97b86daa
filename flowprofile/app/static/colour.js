// Numbers as colours: one scale for signed values, centred at zero, and one for those that have no sign.

const ANCHORS = {
  diverging: ["#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"],
  sequential: ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"],
};
const STEPS = 256;
const TABLES = Object.fromEntries(Object.entries(ANCHORS).map(([name, colours]) => [name, table(colours.map(rgb))]));

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function table(colours) {
  const packed = new Uint32Array(STEPS);
  for (let i = 0; i < STEPS; i += 1) {
    const at = (i / (STEPS - 1)) * (colours.length - 1);
    const below = Math.min(Math.floor(at), colours.length - 2);
    const [r, g, b] = [0, 1, 2].map((c) => Math.round(colours[below][c] + (at - below) * (colours[below + 1][c] - colours[below][c])));
    packed[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return packed;
}

/** The scale for a range of values: centred and diverging where they have signs; logarithmic over three decades. */
export function scale(low, high, log = false) {
  const far = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const near = log ? far / 1000 : 0;
  if (low < 0) return { name: "diverging", low: -far, high: far, near };
  return { name: "sequential", low, high: high > low ? high : low + 1, near };
}

/** Where a value stands on a scale, linear or, with `near`, logarithmic on both sides of a linear middle. */
function placed(value, near) {
  return near ? Math.sign(value) * Math.log1p(Math.abs(value) / near) : value;
}

/** Draw numbers [y x] into a canvas of their own size; what is not a number stays clear. */
export function paint(canvas, values, height, width, { name, low, high, near = 0 }) {
  const { context, image, pixels } = sheet(canvas, height, width);
  const colours = TABLES[name];
  const first = placed(low, near);
  const factor = (STEPS - 1) / (placed(high, near) - first);
  for (let i = 0; i < values.length; i += 1) {
    const at = Math.round((placed(values[i], near) - first) * factor);
    pixels[i] = Number.isNaN(at) ? 0 : colours[at < 0 ? 0 : at > STEPS - 1 ? STEPS - 1 : at];
  }
  context.putImageData(image, 0, 0);
}

/** Draw colours [channel y x] of a range of pixel values; one channel is gray. */
export function paintImage(canvas, planes, height, width, [low, high]) {
  const { context, image, pixels } = sheet(canvas, height, width);
  const byte = (value) => Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low))));
  for (let i = 0; i < height * width; i += 1) {
    const [r, g, b] = planes.length === 3 ? planes.map((plane) => byte(plane[i])) : [0, 1, 2].map(() => byte(planes[0][i]));
    pixels[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  context.putImageData(image, 0, 0);
}

/** Draw a scale from its low to its high end. */
export function paintScale(canvas, { name }) {
  const values = Float32Array.from({ length: STEPS }, (_, i) => i);
  paint(canvas, values, 1, STEPS, { name, low: 0, high: STEPS - 1 });
}

function sheet(canvas, height, width) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  return { context, image, pixels: new Uint32Array(image.data.buffer) };
}
