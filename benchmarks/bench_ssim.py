"""SSIM of many frames with shared moments, against one skimage call per pair."""

from itertools import combinations

import numpy as np
import torch
from skimage.metrics import structural_similarity

from benchmarks.harness import Row, compare, exact
from flowprofile.kernels import fused
from flowprofile.measures import windows
from flowprofile.time.noise import noise


def rows(*, tiny: bool = False) -> list[Row]:
    """Batch 8, consecutive frames, float64, three channels; and the planes filtered for all pairs of labels."""
    torch.set_num_threads(1)
    return [
        _consecutive(8 if tiny else 32, ">= 4x", tiny),
        _consecutive(8 if tiny else 64, "", tiny),
        _fused(8 if tiny else 32, "", tiny),
        _fused(8 if tiny else 64, ">= 15x", tiny),
        _through_torch(8 if tiny else 32, tiny),
        _planes(),
    ]


def _film(side: int) -> np.ndarray:
    frames: np.ndarray = 0.5 + 0.2 * noise(0, 0, (8, 5, 3, side, side)).cumsum(axis=1)
    return frames


def _skimage(frames: np.ndarray) -> np.ndarray:
    return np.array(
        [
            [
                structural_similarity(row[k], row[k + 1], data_range=2.0, channel_axis=0)
                for k in range(len(row) - 1)
            ]
            for row in frames.astype(np.float64)
        ]
    )


def _consecutive(side: int, target: str, tiny: bool) -> Row:
    frames = _film(side)
    worst = np.abs(windows.consecutive(frames, data_range=2.0) / _skimage(frames) - 1).max()
    return compare(
        f"SSIM of consecutive frames, batch 8, {side} px, against skimage per pair",
        lambda: windows.consecutive(frames, data_range=2.0),
        lambda: _skimage(frames),
        target=target,
        tiny=tiny,
        note=f"largest relative difference {worst:.1e}",
    )


def _fused(side: int, target: str, tiny: bool) -> Row:
    """Compiled before it is timed; where that is not possible the row is NumPy's, and says so."""
    frames = _film(side)
    compiled = not tiny and fused.prepare(frames.dtype)
    wanted, got = windows.consecutive(frames, data_range=2.0), fused.consecutive(frames, data_range=2.0)
    bits = "the bits of NumPy" if got.tobytes() == wanted.tobytes() else "NOT the bits of NumPy"
    worst = np.abs(got / _skimage(frames) - 1).max()
    how = bits if compiled else "NOT compiled: pip install 'flowprofile[fast]'"
    return compare(
        f"SSIM of consecutive frames, batch 8, {side} px: the fused kernel, against skimage per pair",
        lambda: fused.consecutive(frames, data_range=2.0),
        lambda: _skimage(frames),
        target=target,
        tiny=tiny,
        note=f"{how}; largest relative difference {worst:.1e}",
    )


def _through_torch(side: int, tiny: bool) -> Row:
    frames = _film(side)
    tensor = torch.from_numpy(frames)
    return compare(
        f"SSIM of consecutive frames, batch 8, {side} px: the same code through torch, against skimage",
        lambda: windows.consecutive(tensor, data_range=2.0, lib=torch),
        lambda: _skimage(frames),
        target="",
        tiny=tiny,
    )


def _planes() -> Row:
    """Counted while the work is done: each label is filtered once, each pair adds one plane."""
    counted = 0

    class Counting(windows.Windows):
        def _sum_windows(self, plane: object, out: object) -> None:
            nonlocal counted
            counted += 1
            super()._sum_windows(plane, out)

    pairs = list(combinations(range(16), 2))
    work = Counting((1, 1, 8, 8), slots=16, window=7, data_range=2.0)
    for label in range(16):
        work.keep(label, noise(label, 0, (1, 1, 8, 8)))
    for one, other in pairs:
        work.ssim(one, other)
    return exact(
        "SSIM between 16 labels, all pairs: filtered planes against five per pair",
        5 * len(pairs) / counted,
        target=">= 3.5x",
        note=f"{counted} planes instead of {5 * len(pairs)}",
    )
