"""A small network that reads the label off a picture: the measure of whether a sample shows what it was asked for.

It is trained on renders or real digits only, never on samples, and its own errors on held-out pictures are stated
with it. Rules on pixels read three of four samples; a trained reader reads nearly all.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowprofile.datasets import digits as digits_data
from flowprofile.datasets import faces as faces_data
from flowprofile.models import reading, weights
from flowprofile.models.mixture import GaussianMixtureDenoiser
from flowprofile.models.reading import FOLDER, KEY, WIDTHS
from flowprofile.models.reading import ReaderCard as ReaderCard

Pictures = Callable[[int], tuple[NDArray[np.float32], NDArray[np.int64]]]
"""From a step to images in [0, 1] and labels."""
Ask = Callable[[NDArray[np.float32]], Any]
"""From pictures [case channel y x] to the probability of each label, [case label]."""
BATCH: Final = 8
"""Every call for probabilities has this many rows, so that a picture's do not depend on the pictures beside it."""


class Reader(nn.Module):
    """Three convolutions and a linear layer; pictures in [0, 1] in, logits of all questions out."""

    def __init__(self, card: ReaderCard) -> None:
        super().__init__()
        self.card = card
        first, second, third = WIDTHS
        self.features = nn.Sequential(
            nn.Conv2d(card.channels, first, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(first, second, 3, stride=card.shrink, padding=1),
            nn.GELU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.answers = nn.Linear(third * card.side**2, sum(card.heads))

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

    @torch.no_grad()
    def probabilities(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of each label, [case label], of images [case channel y x] in [0, 1]; rows sum to one.

        Questions are answered one by one, so a label has the product of the probabilities of its answers; labels are
        numbered as `read` numbers them.
        """
        logits = in_batches(images, lambda part: self(torch.from_numpy(part)).numpy())
        joint = np.ones((len(logits), 1))
        for part in np.split(logits, np.cumsum(self.card.heads)[:-1], axis=1):
            joint = (joint[:, :, None] * _softmax(part)[:, None, :]).reshape(len(logits), -1)
        return joint


def posterior(denoiser: GaussianMixtureDenoiser, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """p(label | x_0) of a mixture, [case label], exact; x[case channel y x] in the model's own pixel values.

    Bayes' rule with all labels equally likely: proportional to sum_k p(component k | label) N(x; template_k, sd^2).
    """
    labels = range(denoiser.card.labels.count)

    def densities(part: NDArray[np.float32]) -> NDArray[np.float64]:
        state = torch.from_numpy(part).double()
        index = torch.full((len(part),), -1)  # the network index i = t - 1 of the image itself
        terms = [denoiser.log_density(state, index, torch.full_like(index, label)) for label in labels]
        return np.asarray(torch.stack(terms, 1).numpy())

    return _softmax(in_batches(x, densities))


def in_batches(images: NDArray[np.float32], ask: Ask) -> NDArray[np.float64]:
    """What `ask` gives for `BATCH` pictures at a time; the rows that a last batch has left are black."""
    found = []
    for first in range(0, len(images), BATCH):
        part = images[first : first + BATCH]
        padded = np.zeros((BATCH, *images.shape[1:]), np.float32)
        padded[: len(part)] = part
        found.append(np.asarray(ask(padded), dtype=np.float64)[: len(part)])
    return np.concatenate(found)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return shares


def load(name: str, *, folder: str | Path = FOLDER) -> Reader:
    """The embedded reader of a model."""
    return load_file(reading.path_of(name, folder=folder))


def load_file(path: str | Path) -> Reader:
    """The reader in a file that `save` wrote; raises ModelError for any other."""
    reader = Reader(reading.card(path))
    reader.load_state_dict({key: tensor.float() for key, tensor in weights.load(path).items()})
    return reader.eval().requires_grad_(False)


def digest(reader: Reader) -> str:
    """Digest of its weights, as recorded beside every fidelity."""
    return weights.digest(reader.state_dict())


def save(reader: Reader, *, folder: str | Path = FOLDER) -> Path:
    """Write the reader with its card."""
    path = reading.path_of(reader.card.name, folder=folder)
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
