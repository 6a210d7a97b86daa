"""Finished samples as small pictures, many in one answer: what the table of cases shows beside its numbers."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowprofile.app.asked import Query, case_of, whole
from flowprofile.app.lines import PRESENT
from flowprofile.axes import CHANNEL, INTERVENTION, LABEL, SEED, TIME, X, Y
from flowprofile.errors import StoreError
from flowprofile.figures import at_scale, pixels
from flowprofile.store.lazy import STATUS, unchunked

MOST: Final = 64
"""Pictures of one answer."""
SIDE: Final = 64
"""Pixels of a side at most; of larger pictures blocks are averaged."""
SAMPLES: Final = (("trajectory", "x_t"), ("decoded", "decoded"))
"""Where finished pictures are, the latter of latent models."""


@dataclass(frozen=True)
class Thumbnails:
    """Pictures one below the other, as rows of RGBA; one that is not stored is transparent."""

    data: bytes
    width: int
    height: int
    """Of one picture."""
    count: int
    time: int
    """The state that is shown: 0 is the finished sample."""


def thumbnails(tree: xr.DataTree, asked: Query) -> Thumbnails:
    """The last kept state of some seeds of one label.

    Parameters
    ----------
    asked
        ``label``, ``intervention`` and ``seeds`` (repeated, or with commas), at most 64.
    """
    seeds = [whole(part, SEED) for text in asked.all("seeds") for part in text.split(",") if part]
    if not 0 < len(seeds) <= MOST:
        raise StoreError(f"{len(seeds)} seeds are asked for.", remedy=f"name 1 to {MOST}: seeds=0,1,2")
    # Each seed is looked up as that of a case, which refuses what the run does not have.
    cases = [case_of(tree, Query((*_fixed(asked), (SEED, str(seed))))) for seed in seeds]
    data, variable = _samples(tree)
    at = {INTERVENTION: cases[0].intervention, LABEL: cases[0].label, SEED: seeds}
    last = data.sel(at).isel({TIME: -1})
    states = last[variable].isel({CHANNEL: slice(3)}) if last.sizes[CHANNEL] > 3 else last[variable]
    states = states.isel({CHANNEL: [0]}) if states.sizes[CHANNEL] == 2 else states
    there = last[STATUS].values == PRESENT
    found = smaller(np.asarray(pixels(at_scale(states.load(), data)).transpose(SEED, Y, X, CHANNEL).values))
    count, height, width, channels = found.shape
    out = np.zeros((count, height, width, 4), np.uint8)
    colours = np.nan_to_num(found) * 255
    out[..., :3] = np.rint(np.repeat(colours, 3, axis=-1) if channels == 1 else colours).astype(np.uint8)
    out[there, ..., 3] = 255
    return Thumbnails(out.tobytes(), width, height, count, int(last[TIME]))


def _fixed(asked: Query) -> list[tuple[str, str]]:
    return [(name, asked.get(name)) for name in (INTERVENTION, LABEL) if asked.get(name)]


def _samples(tree: xr.DataTree) -> tuple[xr.Dataset, str]:
    """Where finished samples are: of a latent model the decoded ones, if they are kept."""
    held = [(name, variable) for name, variable in SAMPLES if name in tree.children]
    if not held:
        raise StoreError(
            "This run keeps no samples.",
            remedy="keep the last state: flowprofile rerun STORE --set stages.trajectory.keep=[0]",
        )
    node, variable = held[-1]
    return unchunked(tree.children[node].to_dataset()), variable


def smaller(images: NDArray[Any]) -> NDArray[Any]:
    """Pictures [case, y, x, channel] of at most 64 pixels a side: means over square blocks, the rest cut off."""
    step = -(-max(images.shape[1:3]) // SIDE)
    if step == 1:
        return images
    count, height, width, channels = images.shape
    high, wide = height // step, width // step
    cut = images[:, : high * step, : wide * step]
    return np.asarray(cut.reshape(count, high, step, wide, step, channels).mean(axis=(2, 4)))
