// Plots as one picture, for saving.

import { make } from "app/dom.js";
import { colour } from "app/theme.js";

const [WIDE, HIGH, HEAD] = [1000, 600, 34];

/** Cards below each other, two a row, with their titles. */
export async function sheet(cards, title) {
  const blobs = await Promise.all(cards.map((card) => card.png()));
  const shown = cards.map((card, i) => [card, blobs[i]]).filter(([, blob]) => blob);
  const columns = Math.min(2, shown.length) || 1;
  const page = make("canvas", { width: columns * WIDE, height: HEAD + Math.ceil(shown.length / columns) * (HIGH + HEAD) });
  const context = page.getContext("2d");
  context.fillStyle = colour("ground");
  context.fillRect(0, 0, page.width, page.height);
  context.fillStyle = colour("ink");
  context.font = "bold 20px sans-serif";
  context.fillText(title, 14, 24);
  await Promise.all(shown.map(async ([card, blob], i) => {
    const [x, y] = [(i % columns) * WIDE, HEAD + Math.floor(i / columns) * (HIGH + HEAD)];
    const image = await createImageBitmap(blob);
    context.fillText(card.title, x + 14, y + 24);
    context.drawImage(image, x, y + HEAD, WIDE, HIGH);
  }));
  return new Promise((done) => page.toBlob(done, "image/png"));
}
