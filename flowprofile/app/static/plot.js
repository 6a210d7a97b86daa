// Curves and volumes, drawn by plotly.js in the colours of the page; it is fetched when the first one is drawn.

import { make } from "app/dom.js";
import { colour } from "app/theme.js";

let loading = null;

/** plotly.js, loaded once. */
export function plotly() {
  loading ??= new Promise((done, failed) => {
    const script = make("script", { src: window.flowprofileExport ? "plotly.js" : "/plotly.js" });
    script.onload = () => done(window.Plotly);
    script.onerror = () => failed(new Error("plotly.js could not be loaded."));
    document.head.append(script);
  });
  return loading;
}

/** The n-th colour of lines, told apart with the common colour deficiencies. */
export function line(n) {
  return colour(`line-${(n % 8) + 1}`);
}

/** A card with a plot: traces and axes are made anew when the theme changes. `told` says in words what it shows. */
export function plotCard(title, told, draw, { tall = false, moved = null } = {}) {
  const place = make("div", { class: `plot${tall ? " tall" : ""}`, role: tall ? "group" : "img", "aria-label": `${title}. ${told}` });
  const card = make("figure", { class: "plot-card" }, make("figcaption", {}, make("strong", {}, title), make("div", { class: "told" }, told)), place);
  const again = async () => {
    const Plotly = await plotly();
    const { traces, layout } = draw();
    await Plotly.react(place, traces, dressed(layout), { displaylogo: false, responsive: true, displayModeBar: tall ? "hover" : false, modeBarButtonsToRemove: ["sendDataToCloud"] });
    if (moved && !place.dataset.listens) {
      place.dataset.listens = "true";
      place.on("plotly_click", ({ points }) => moved(points[0]));
    }
  };
  const themed = () => again();
  addEventListener("theme", themed);
  return {
    element: card,
    draw: again,
    png: async () => fetchBlob(await (await plotly()).toImage(place, { format: "png", width: 1000, height: 600, scale: 2 })),
    close: () => {
      removeEventListener("theme", themed);
      window.Plotly?.purge(place);
    },
  };
}

/** A text from a store as plotly shows it: it reads some markup, and names are text. */
export function literal(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** A time axis: t descends from noise to image. */
export function timeAxis(times) {
  return { title: { text: "state t (noise → image)" }, range: [Math.max(...times), Math.min(...times)], zeroline: false };
}

function dressed(layout) {
  const ink = colour("ink");
  const axis = { gridcolor: colour("rule"), linecolor: colour("edge"), tickfont: { color: colour("faint") }, automargin: true };
  const axes = Object.fromEntries(Object.entries(layout).filter(([name]) => /^[xy]axis\d*$/.test(name)).map(([name, each]) => [name, { ...axis, ...each }]));
  return {
    margin: { l: 55, r: 15, t: 10, b: 45 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, size: 13 }, hovermode: "x unified", hoverlabel: { bgcolor: colour("ground"), font: { color: ink } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("faint"), activecolor: ink, orientation: "v" },
    legend: { orientation: "h", y: -0.22, font: { color: ink } }, ...layout, ...axes,
  };
}

async function fetchBlob(url) {
  const bytes = Uint8Array.from(atob(url.split(",")[1]), (c) => c.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}
