"""A small network that reads regions off a picture: where the eyes of this very sample are.

A frequency map says where eyes are as a rule; a sample's own may be a pixel beside. The network is trained on renders
only, whose regions are known, and its agreement with held-out renders stands in its card. For samples no truth
exists: there it can be looked at, and no number can be given.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowprofile.errors import ModelError
from flowprofile.models import regions as known
from flowprofile.models import weights
from flowprofile.models.regions import REGIONS, Renders, renders

KEY: Final = "flowprofile-segmenter"
"""Name of the metadata entry that holds the card."""
BATCH: Final = 8
"""Every call has this many rows, so that a picture's masks do not depend on the pictures beside it."""
TRAINED_ON: Final = 3
"""Collection of the renders it learns from."""
HELD_OUT: Final = 4
"""Collection of the renders it is judged on."""


@dataclass(frozen=True)
class SegmenterCard:
    """What a segmenter reads, and how well."""

    name: str
    """Name of the model whose samples it reads."""
    channels: int
    """Image channels."""
    size: int
    """Side of the image."""
    regions: tuple[str, ...]
    """Names of what it reads; regions may overlap."""
    iou: Mapping[str, float] = field(default_factory=dict)
    """Of each region: pixels in both its reading and the truth over pixels in either, all held-out renders together."""
    iou_worst: Mapping[str, float] = field(default_factory=dict)
    """Of each region: the same of the picture at the first percentile, among pictures that show the region."""
    missed: Mapping[str, float] = field(default_factory=dict)
    """Of each region: share of the held-out renders that show it in which not one pixel of it was read."""
    invented: Mapping[str, float] = field(default_factory=dict)
    """Of each region: share of the held-out renders that do not show it in which some pixel of it was read."""
    held_out_n: int = 0
    """How many renders those were; a region has no entry where no render was of the kind."""


class Segmenter(nn.Module):
    """Pictures in [0, 1] in, one logit for every region and pixel out; two halvings, with skips."""

    def __init__(self, card: SegmenterCard) -> None:
        super().__init__()
        self.card = card
        self.outer = nn.Sequential(nn.Conv2d(card.channels, 16, 3, padding=1), nn.GELU())
        self.shrunk = nn.Sequential(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.GELU())
        self.inner = nn.Sequential(
            nn.Conv2d(32, 40, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(40, 40, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(40, 32, 1),
        )
        self.join_shrunk = nn.Sequential(nn.Conv2d(64, 24, 3, padding=1), nn.GELU())
        self.join_outer = nn.Sequential(nn.Conv2d(40, 24, 3, padding=1), nn.GELU())
        self.answers = nn.Conv2d(24, len(card.regions), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits[case region y x] of images[case channel y x]."""
        full = self.outer(images - 0.5)
        half = self.shrunk(full)
        low = _doubled(self.inner(half))
        joined = _doubled(self.join_shrunk(torch.cat([half, low], dim=1)))
        out: Tensor = self.answers(self.join_outer(torch.cat([full, joined], dim=1)))
        return out

    @torch.no_grad()
    def regions(self, images: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The pixels of every region of `card.regions`, [case region y x], of images[case channel y x] in [0, 1].

        A region that a picture does not show has no pixel: its mask is all False, and what that means is for the
        caller to say. A picture with a number that is not finite has no masks and is refused.
        """
        given = np.ascontiguousarray(images, dtype=np.float32)
        self._check(given)
        masks = [self._read(given[i : i + BATCH]) for i in range(0, len(given), BATCH)]
        side = self.card.size
        empty = np.zeros((0, len(self.card.regions), side, side), np.bool_)
        return np.concatenate([empty, *masks])

    def _read(self, images: NDArray[np.float32]) -> NDArray[np.bool_]:
        padded = np.zeros((BATCH, *images.shape[1:]), np.float32)
        padded[: len(images)] = images
        mask: NDArray[np.bool_] = (self(torch.from_numpy(padded))[: len(images)] > 0).numpy()
        return mask

    def _check(self, images: NDArray[np.float32]) -> None:
        card = self.card
        shape = (card.channels, card.size, card.size)
        if images.ndim != 4 or images.shape[1:] != shape:
            raise ModelError(
                f"The reader of {card.name!r} cannot look at images of shape {images.shape!r}.",
                consequence="It has seen pictures of one size only, and its masks are of that size.",
                remedy=f"give [case channel y x] with {shape!r} after the cases",
            )
        bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        if len(bad):
            raise ModelError(
                f"{len(bad)} of {len(images)} images have a number that is not finite.",
                consequence="A mask read off it would look like any other.",
                remedy="leave these cases out",
                evidence=f"the first of them: case {bad[0]} of the batch",
            )


def load(name: str, *, folder: str | Path = known.FOLDER) -> Segmenter:
    """The embedded segmenter of a model; a model without named regions is refused."""
    known.regions(name)
    path = known.reader_path(name, folder=folder)
    values = json.loads(weights.read_header(path).metadata[KEY])
    segmenter = Segmenter(SegmenterCard(**{**values, "regions": tuple(values["regions"])}))
    segmenter.load_state_dict({key: tensor.float() for key, tensor in weights.load(path).items()})
    return segmenter.eval().requires_grad_(False)


def save(segmenter: Segmenter, *, folder: str | Path = known.FOLDER) -> Path:
    """Write the segmenter with its card, in half precision: `train` has rounded its numbers to it already."""
    path = known.reader_path(segmenter.card.name, folder=folder)
    halves = {key: tensor.half() for key, tensor in segmenter.state_dict().items()}
    weights.write(path, halves, {KEY: json.dumps(asdict(segmenter.card), sort_keys=True)})
    return path


def train(
    *,
    steps: int = 2700,
    people: int = 16,
    held_out: int = 1024,
    listen: Callable[[int, float], None] = lambda step, loss: None,
) -> Segmenter:
    """A segmenter of `faces32`: six to seven CPU minutes. How the shipped one was made.

    Parameters
    ----------
    steps
        Steps of Adam, with a rate that falls to zero.
    people
        People in a batch; each is shown twice, without bangs and with them. No picture is shown twice.
    held_out
        People of another collection on whom it is judged.
    listen
        Is told step and loss.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = Segmenter(SegmenterCard("faces32", 3, 32, REGIONS))
    optimiser = torch.optim.Adam(segmenter.parameters(), lr=3e-3)
    for step in range(steps):
        drawn = renders(TRAINED_ON, range(step * people, (step + 1) * people))
        images = torch.from_numpy(_spoiled(drawn.images, step))
        optimiser.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        optimiser.zero_grad()
        loss = _loss(segmenter(images), torch.from_numpy(drawn.masks).float())
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        listen(step, loss.item())
    segmenter.half().float()  # judged as it is shipped
    segmenter.eval().requires_grad_(False)
    segmenter.card = judged(segmenter, renders(HELD_OUT, range(held_out)))
    return segmenter


def judged(segmenter: Segmenter, truth: Renders) -> SegmenterCard:
    """Its card with its agreement with the truth about some renders."""
    read = segmenter.regions(truth.images)
    both, either = (mask.sum(axis=(2, 3)) for mask in (read & truth.masks, read | truth.masks))
    shown, found = (mask.sum(axis=(2, 3)) > 0 for mask in (truth.masks, read))
    iou: dict[str, float] = {}
    worst: dict[str, float] = {}
    missed: dict[str, float] = {}
    invented: dict[str, float] = {}
    for number, name in enumerate(segmenter.card.regions):
        there = shown[:, number]
        inside, around, seen = both[:, number], either[:, number], found[:, number]
        if there.any():
            iou[name] = round(float(inside.sum() / around.sum()), 4)
            worst[name] = round(float(np.quantile(inside[there] / around[there], 0.01)), 4)
            missed[name] = round(float(1 - seen[there].mean()), 4)
        if not there.all():
            invented[name] = round(float(seen[~there].mean()), 4)
    card = replace(segmenter.card, iou=iou, iou_worst=worst, missed=missed, invented=invented)
    return replace(card, held_out_n=len(truth.images))


def _spoiled(images: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Renders with grain, and each a little blurred or not at all, as samples are."""
    random = np.random.Generator(np.random.Philox(key=[TRAINED_ON, step]))
    share = (0.3 * random.random((len(images), 1, 1, 1))).astype(np.float32)
    blurred: NDArray[np.float32] = images
    for axis in (2, 3):
        wide = np.concatenate([blurred.take([0], axis), blurred, blurred.take([-1], axis)], axis)
        size = images.shape[axis]
        low, mid, high = (wide.take(range(i, i + size), axis) for i in range(3))
        blurred = (0.25 * low + 0.5 * mid + 0.25 * high).astype(np.float32)
    grain = np.float32(0.03) * random.standard_normal(images.shape, np.float32)
    spoiled: NDArray[np.float32] = images + share * (blurred - images) + grain
    return spoiled


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of every pixel, and one minus a soft overlap, without which four pixels of nose weigh nothing."""
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, masks)
    chance = logits.sigmoid()
    both, sum_ = (chance * masks).sum((0, 2, 3)), (chance + masks).sum((0, 2, 3))
    return entropy + 0.1 * (1 - (2 * both + 1) / (sum_ + 1)).mean()


def _doubled(x: Tensor) -> Tensor:
    """Each pixel as two by two; exact, and its backward is a sum in one order."""
    cases, channels, height, width = x.shape
    wide = x[:, :, :, None, :, None].expand(cases, channels, height, 2, width, 2)
    return wide.reshape(cases, channels, 2 * height, 2 * width)
