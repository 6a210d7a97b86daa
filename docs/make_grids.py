"""Draw the pictures of the embedded models for the README: samples, every label times several seeds.

Run from the project's root: ``python docs/make_grids.py``. Seeds are 0, 1, 2, ... and none is left out;
DDIM, 50 steps. A column is one label and a row one seed, the same noise under every label; what has one channel is drawn in
greys, black 0 to white 1.
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from flowprofile.cases import Case
from flowprofile.conditioning.labels import LabelSpace
from flowprofile.models import fidelity, zoo
from flowprofile.models.numerics import settle

FIGURES = Path(__file__).parent / "figures"
LEFT = 0.5
"""Inches for the seeds' names."""


def grid(images: NDArray[np.float32], labels: LabelSpace, *, side: float = 0.72) -> Figure:
    """A picture of images [seed label channel y x] in [0, 1], a label's name above its column and a seed's beside its row."""
    rows, columns = images.shape[:2]
    head = 0.18 + 0.14 * (len(labels.attributes) + 1)
    height, width = rows * side + head + 0.08, columns * side + LEFT + 0.08
    figure = plt.figure(figsize=(width, height), dpi=150, facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=LEFT / width,
        right=1 - 0.08 / width,
        bottom=0.08 / height,
        top=1 - head / height,
        wspace=0.05,
        hspace=0.05,
    )
    for row in range(rows):
        for column in range(columns):
            panel, picture = axes[row, column], images[row, column].transpose(1, 2, 0)
            shown = picture[..., 0] if picture.shape[-1] == 1 else picture
            panel.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            panel.set_axis_off()
    size = 8 if labels.attributes else 11
    for row in range(rows):
        place = axes[row, 0].annotate
        place(
            f"seed {row}",
            (0, 0.5),
            (-4, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=8,
        )
    for column in range(columns):
        lines = heading(labels, column)
        for place, line in enumerate(reversed(lines)):
            offset = (0, 3 + place * 1.25 * size)
            axes[0, column].annotate(
                line,
                (0.5, 1),
                offset,
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                fontsize=size,
            )
    return figure


def heading(labels: LabelSpace, label: int) -> tuple[str, ...]:
    """The bits, and below them a line for each attribute, empty where it is off; of a label without any "none"."""
    on = labels.names(label)
    lines = [name if name in on else "" for name in labels.attributes]
    if lines and not on:
        lines[-1] = "none"
    return labels.bits(label), *lines


def draw(name: str, *, seeds: int, sampler: str = "ddim", transitions: int = 50) -> Figure:
    """Samples of an embedded model, every label and the first seeds."""
    denoiser = zoo.load(name)
    labels = denoiser.card.labels
    cases = [Case(seed, label) for seed in range(seeds) for label in range(labels.count)]
    images = fidelity.draw(denoiser, cases, sampler=sampler, transitions=transitions)
    return grid(images.reshape(seeds, labels.count, *denoiser.card.shape), labels)


def main() -> None:
    """Write both figures."""
    settle()
    FIGURES.mkdir(exist_ok=True)
    for name, seeds in (("faces32", 5), ("digits", 6)):
        figure = draw(name, seeds=seeds)
        figure.savefig(FIGURES / f"{name}.png", pil_kwargs={"optimize": True})
        plt.close(figure)


if __name__ == "__main__":
    main()
