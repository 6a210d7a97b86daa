"""A small network that reads the label off a picture: the measure of whether a sample shows what it was asked for.

It is trained on renders or real digits only, never on samples, and its own errors on held-out pictures are stated
with it. Rules on pixels read three of four samples; a trained reader reads nearly all.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowprofile.datasets import digits as digits_data
from flowprofile.datasets import faces as faces_data
from flowprofile.models import weights

Pictures = Callable[[int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""From a step to images in [0, 1] and labels."""
KEY: Final = "flowprofile-reader"
_FOLDER: Final = Path(__file__).parent / "embedded"


@dataclass(frozen=True)
class ReaderCard:
    """What a reader reads, and how well."""

    name: str
    """Name of the model whose samples it reads."""
    channels: int
    """Image channels."""
    size: int
    """Side of the image."""
    heads: tuple[int, ...]
    """Answers of each question: (2, 2, 2, 2) for four bits, (10,) for ten classes."""
    held_out: float = 0.0
    """Share of held-out pictures that it reads without any error."""
    held_out_n: int = 0
    """How many those were."""


class Reader(nn.Module):
    """Three convolutions and a linear layer; pictures in [0, 1] in, logits of all questions out."""

    def __init__(self, card: ReaderCard) -> None:
        super().__init__()
        self.card = card
        shrink = 2 if card.size >= 16 else 1
        self.features = nn.Sequential(
            nn.Conv2d(card.channels, 24, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 32, 3, stride=shrink, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.GELU(),
        )
        side = card.size // (2 * shrink)
        self.answers = nn.Linear(48 * side * side, sum(card.heads))

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.answers(self.features(images - 0.5).flatten(1))
        return out

    @torch.no_grad()
    def read(self, images: NDArray[np.float32]) -> NDArray[np.int64]:
        """The label of each picture [case channel y x] in [0, 1]; bits are joined, first question most significant."""
        parts = [self(torch.from_numpy(images[i : i + 64])) for i in range(0, len(images), 64)]
        label = torch.zeros(len(images), dtype=torch.int64)
        for head, logits in zip(
            self.card.heads, torch.split(torch.cat(parts), list(self.card.heads), dim=1), strict=True
        ):
            label = label * head + logits.argmax(1)
        return label.numpy()


def load(name: str, *, folder: str | Path = _FOLDER) -> Reader:
    """The embedded reader of a model."""
    path = Path(folder) / f"{name}-reader.safetensors"
    values = json.loads(weights.read_header(path).metadata[KEY])
    reader = Reader(ReaderCard(**{**values, "heads": tuple(values["heads"])}))
    reader.load_state_dict({key: tensor.float() for key, tensor in weights.load(path).items()})
    return reader.eval().requires_grad_(False)


def digest(reader: Reader) -> str:
    """Digest of its weights, as recorded beside every fidelity."""
    return weights.digest(reader.state_dict())


def save(reader: Reader, *, folder: str | Path = _FOLDER) -> Path:
    """Write the reader with its card."""
    path = Path(folder) / f"{reader.card.name}-reader.safetensors"
    weights.write(path, reader.state_dict(), {KEY: json.dumps(asdict(reader.card), sort_keys=True)})
    return path


def train_faces(*, steps: int = 1200, batch: int = 32, size: int = 32) -> Reader:
    """A reader of the four attributes, trained on renders of collection 1 and held to 2,048 of collection 2."""
    held = faces_data.faces(2, range(2048), size=size)

    def pictures(step: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        drawn = faces_data.faces(1, range(step * batch, (step + 1) * batch), size=size)
        return drawn.images, drawn.labels

    card = ReaderCard("faces32", 3, size, (2, 2, 2, 2))
    return _train(card, pictures, steps, held=(held.images, held.labels))


def train_digits(*, steps: int = 1500, batch: int = 64) -> Reader:
    """A reader of the ten classes; every fifth digit is held out."""
    data = digits_data.digits()
    out = np.arange(len(data.labels)) % 5 == 4
    images, labels = data.images[~out], data.labels[~out]

    def pictures(step: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        chosen = _random(1, step).choice(len(labels), batch, replace=False)
        return images[chosen], labels[chosen]

    card = ReaderCard("digits", 1, 8, (10,))
    return _train(card, pictures, steps, held=(data.images[out], data.labels[out]))


def _random(seed: int, step: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, step]))


def _train(
    card: ReaderCard,
    pictures: Pictures,
    steps: int,
    *,
    held: tuple[NDArray[np.float32], NDArray[np.int64]],
) -> Reader:
    """Adam with a falling rate on pictures with a little noise, so that a sample's grain is not read as a feature."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reader = Reader(card)
    optimiser = torch.optim.Adam(reader.parameters(), lr=2e-3)
    for step in range(steps):
        images, labels = pictures(step)
        grain = 0.04 * _random(3, step).standard_normal(images.shape, np.float32)
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        optimiser.zero_grad()
        loss = _loss(reader(torch.from_numpy(images + grain)), labels, card.heads)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    right = float((reader.read(held[0]) == held[1]).mean())
    reader.card = ReaderCard(card.name, card.channels, card.size, card.heads, right, len(held[1]))
    return reader.eval().requires_grad_(False)


def _loss(logits: Tensor, labels: NDArray[np.int64], heads: Sequence[int]) -> Tensor:
    total = logits.new_zeros(())
    rest = torch.from_numpy(labels)
    for head, part in reversed(list(zip(heads, torch.split(logits, list(heads), dim=1), strict=True))):
        total = total + nn.functional.cross_entropy(part, rest % head)
        rest = rest // head
    return total
