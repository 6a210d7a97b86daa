"""The view of `panel` as a competent user of Gradio writes it: a map of one layer, a channel slider, a step slider.

It is given every advantage that its users have: the layer of the case is read once and stays in memory, only the
sliders' input asks for a picture, the last of several wins, and nothing is drawn over the picture meanwhile. Drawn
`--as image` it is the fastest that Gradio has; `--as plot` it has a legend and the value under the pointer too.

    python gradio_twin.py STORE --layer mid_attn.fn --label 6 --seed 0 --as image --port 7860
"""

import argparse
from collections.abc import Callable

import gradio
import numpy as np
from matplotlib import colormaps
from plotly.graph_objects import Figure, Heatmap

import flowprofile as fp

SIDE = 256
"""Pixels of the picture."""


def main() -> None:
    """Serve the view of one case until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--layer", required=True)
    parser.add_argument("--label", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--as", dest="drawn", choices=("image", "plot"), required=True)
    parser.add_argument("--port", type=int, required=True)
    told = parser.parse_args()
    maps = fp.open(told.store)[f"activations/{told.layer}"]["activation"]
    case = maps.sel(intervention="none", label=told.label, seed=told.seed)
    made = view(case.values, case.time.values.tolist(), drawn=told.drawn)
    made.launch(server_name="127.0.0.1", server_port=told.port, share=False, quiet=True)


def view(maps: np.ndarray, times: list[int], *, drawn: str) -> gradio.Blocks:
    """The page; maps [time channel y x]."""
    draw: Callable[[np.ndarray], object] = {"image": coloured, "plot": plotted}[drawn]
    last = len(times) - 1

    def picked(position: int, channel: int) -> object:
        return draw(maps[int(position), int(channel)])

    with gradio.Blocks(title="Activations") as page:
        channel = gradio.Slider(0, maps.shape[1] - 1, value=0, step=1, label="channel", elem_id="channel")
        time = gradio.Slider(
            0, last, value=0, step=1, label=f"step, t = {times[0]} .. {times[last]}", elem_id="time"
        )
        component = {"image": gradio.Image, "plot": gradio.Plot}[drawn]
        picture = component(picked(0, 0), elem_id="map", show_label=False)
        for slider in (channel, time):
            slider.input(picked, [time, channel], picture, show_progress="hidden", trigger_mode="always_last")
    return page


def coloured(one: np.ndarray) -> np.ndarray:
    """A map [y x] as bytes [y x rgb], centred on zero, with square pixels."""
    limit = max(float(np.abs(one).max()), 1e-12)
    colours = colormaps["RdBu_r"]((one / limit + 1) / 2, bytes=True)[..., :3]
    times = max(1, SIDE // one.shape[0])
    large: np.ndarray = colours.repeat(times, axis=0).repeat(times, axis=1)
    return large


def plotted(one: np.ndarray) -> Figure:
    """A map [y x] as an interactive figure, centred on zero."""
    limit = float(np.abs(one).max())
    figure = Figure(Heatmap(z=one, zmin=-limit, zmax=limit, colorscale="RdBu_r"))
    figure.update_layout(width=400, height=400, yaxis_autorange="reversed")
    return figure


if __name__ == "__main__":
    main()
