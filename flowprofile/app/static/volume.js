// A gradient volume in three dimensions: chosen pixel by y by x, the strongest entries as points.

import { timeOf } from "app/controls.js";
import { make, number } from "app/dom.js";
import { picture } from "app/half.js";
import { plotCard } from "app/plot.js";
import { blocks } from "app/source.js";
import { read } from "app/state.js";
import { colour } from "app/theme.js";

const MOST = 6000;

/** The card of a panel whose blocks are [pixel y x]. A pixel's own entry is left out: it would outshine all others. */
export function drawVolume(panel, app) {
  let points = { x: [], y: [], z: [], value: [] };
  let far = 1;
  const share = make("input", { type: "range", min: 1, max: 20, step: 1, value: 4, id: "volume-share", on: { input: () => move() } });
  const told = make("output");
  const card = plotCard(`${panel.title}, pixel × y × x`, "Entries of d x_t / d x_(t+1) with the largest absolute values, without each pixel's own; along one axis the pixels of the mask, row by row from its upper left. Drag to turn.", () => ({
    traces: [{
      type: "scatter3d", mode: "markers", ...points, hovertemplate: "pixel %{x} of the mask, at %{customdata}<br>entry at y %{z}, x %{y}<br>%{marker.color:.4g}<extra></extra>",
      marker: {
        size: 3, color: points.value, cmin: -far, cmax: far, opacity: 0.85,
        // Entries near zero are none of the strongest: the sign changes where the bar is cut.
        colorscale: [[0, colour("below-far")], [0.5, colour("below")], [0.5, colour("above")], [1, colour("above-far")]],
        colorbar: { orientation: "h", x: 0.5, y: 0, yanchor: "bottom", len: 0.5, thickness: 12, nticks: 5, tickformat: "~g", title: { text: "gradient (no unit), clipped at the strongest twentieth of the points", side: "top" }, tickfont: { color: colour("ink") } },
      },
    }],
    layout: { margin: { l: 0, r: 0, t: 0, b: 0 }, hovermode: "closest", scene: { domain: { y: [0.14, 1] }, xaxis: axis(`pixel of the mask (1 to ${panel.shape[0]})`), yaxis: axis("x (pixels)", panel.shape.at(-1)), zaxis: axis("y (pixels)", panel.shape.at(-2), true), aspectmode: "cube", camera: { eye: { x: 1.5, y: -1.7, z: 0.75 }, center: { x: 0, y: 0, z: -0.12 } } } },
  }), { tall: true });
  card.element.append(make("label", { class: "control" }, make("span", {}, "Strongest entries shown: ", told), share));

  async function move() {
    const t = timeOf(panel.times, read().params);
    if (panel.missing[t] !== undefined) return;
    const [block] = await app.busy(blocks(panel, [t]));
    const found = strongest(block, panel, Number(share.value) / 100);
    ({ points, far } = found);
    told.textContent = `${share.value} % (${points.x.length} points) at t = ${t}; largest ${number(found.largest, 3)}`;
    await app.busy(card.draw());
  }
  return { element: card.element, move: (changed) => (changed.includes("time") ? move() : null), close: card.close };
}

function axis(title, size = null, reversed = false) {
  const range = size ? { range: reversed ? [size, 0] : [0, size] } : {};
  return { title: { text: title }, color: colour("ink"), gridcolor: colour("rule"), backgroundcolor: colour("sheet"), ...range };
}

function strongest(block, panel, share) {
  const [rows, h, w] = block.shape;
  const pixel = panel.leading.find(({ name }) => name === "pixel");
  const found = [];
  for (let row = 0; row < rows; row += 1) {
    const own = pixel.places ? pixel.places[0][row] * w + pixel.places[1][row] : -1;
    picture(block, row).forEach((value, at) => at !== own && found.push([Math.abs(value), value, row, at]));
  }
  found.sort((a, b) => b[0] - a[0]);
  const kept = found.slice(0, Math.min(MOST, Math.ceil(share * rows * h * w)));
  return {
    // One that outshines all others would leave these one pale shade.
    far: kept[Math.floor(kept.length / 20)]?.[0] || 1, largest: kept[0]?.[0] ?? 0,
    points: { x: kept.map((p) => p[2] + 1), customdata: kept.map((p) => (pixel.places ? `y ${pixel.places[0][p[2]]}, x ${pixel.places[1][p[2]]}` : pixel.values[p[2]])), y: kept.map((p) => p[3] % w), z: kept.map((p) => Math.floor(p[3] / w)), value: kept.map((p) => p[1]) },
  };
}
