"""How the embedded models were made, as a value and a function: anyone can make them again.

The random numbers of a step are a function of (recipe seed, step), and the faces of a step are the next ones of an
endless collection; so the whole state of a training is its tensors and one number, and a resumed run ends in the
very weights of an uninterrupted one (at the same thread count). Nothing here prints: progress is told to a listener.

The loss is the MSE of v (Salimans and Ho, 2022) with t stratified inside the batch and bent towards small t, where
the details are. Adam with warm-up, a constant rate and a linear decay; the exponential average is what is shipped.
"""

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.datasets import digits as digits_data
from flowprofile.datasets import faces as faces_data
from flowprofile.errors import DefinitionError, ModelError, nearest
from flowprofile.models import architectures, finished, weights
from flowprofile.models.card import ModelCard
from flowprofile.models.numerics import settle
from flowprofile.time.schedule import schedule


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights."""

    name: str
    """Name of the model it makes."""
    data: str
    """Key of SOURCES."""
    config: Mapping[str, Any]
    """Constructor arguments of the network."""
    shape: tuple[int, int, int]
    """Channel, y, x."""
    labels: LabelSpace
    """Meaning of the labels."""
    steps: int
    """Optimiser steps."""
    batch: int
    """Images a step."""
    learning_rate: float = 2e-3
    """Rate between warm-up and decay."""
    warmup: int = 100
    """Steps of linear growth from 0."""
    decay: float = 1 / 3
    """Last share of the steps, in which the rate falls linearly to 0."""
    average: float = 0.995
    """Decay of the exponential average of the weights; shorter at the beginning."""
    time_power: float = 1.3
    """Exponent of the stratified uniform numbers that give t; above 1 favours small t."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    label_dropout: float = 0.0
    """Share of images whose label is replaced by the null label."""
    seed: int = 0
    """Seed of the weights, the data and the noise."""
    schedule: str = "linear"
    """Noise schedule."""
    times: int = 1000
    """T of the schedule."""
    checkpoint: int = 250
    """Steps between saved states; does not change the weights."""
    source: str = ""
    """Digest of the pictures, where they come from outside; empty for data that the recipe names."""
    architecture: str = architectures.OURS
    """The thesis' layout, or a class of diffusers'."""

    @property
    def null_label(self) -> int | None:
        """The label that stands for none, where the network knows one."""
        found = self.config.get("null_label", self.config.get("num_embeds_ada_norm"))
        return None if found is None else int(found)


@dataclass(frozen=True)
class Progress:
    """What a listener hears after every step."""

    step: int
    """Steps done."""
    steps: int
    """Steps in all."""
    loss: float
    """MSE of v in this batch, before the update."""


Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Images in [-1, 1] and labels."""
Source = Callable[[Recipe], Callable[[int], Batch]]
"""From a recipe to a function of the step."""


def _faces(recipe: Recipe) -> Callable[[int], Batch]:
    def batch(step: int) -> Batch:
        drawn = faces_data.faces(recipe.seed, range(step * recipe.batch, (step + 1) * recipe.batch))
        return 2.0 * drawn.images - 1.0, drawn.labels

    return batch


def _digits(recipe: Recipe) -> Callable[[int], Batch]:
    data = digits_data.digits()

    def batch(step: int) -> Batch:
        generator = np.random.Generator(np.random.Philox(key=[recipe.seed, 2**40 + step]))
        chosen = generator.choice(len(data.labels), recipe.batch, replace=False)
        return 2.0 * data.images[chosen] - 1.0, data.labels[chosen]

    return batch


SOURCES: Final[Mapping[str, Source]] = MappingProxyType({"faces": _faces, "digits": _digits})
"""The data that a recipe may name."""

RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType(
    {
        "faces32": Recipe(
            name="faces32",
            data="faces",
            config={
                "dim": 16,
                "mults": (1, 2, 4),
                "heads": 2,
                "head_dim": 8,
                "label_code": "bits",
                "label_width": 4,
                "label_embedding": True,
                "full_skip": True,
            },
            shape=(3, 32, 32),
            labels=faces_data.LABELS,
            steps=9000,
            batch=24,
        ),
        "digits": Recipe(
            name="digits",
            data="digits",
            config={
                "dim": 16,
                "channels": 1,
                "mults": (1, 2),
                "heads": 2,
                "head_dim": 8,
                "label_code": "classes",
                "label_width": 10,
                "label_embedding": True,
                "null_label": 10,
                "full_skip": True,
            },
            shape=(1, 8, 8),
            labels=digits_data.LABELS,
            steps=4000,
            batch=48,
            label_dropout=0.1,
        ),
        "faces32-unet2d": Recipe(
            name="faces32-unet2d",
            data="faces",
            architecture="UNet2DModel",
            config={
                "sample_size": 32,
                "in_channels": 3,
                "out_channels": 3,
                "layers_per_block": 1,
                "block_out_channels": (32, 64, 64),
                "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
                "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
                "attention_head_dim": 16,
                "norm_num_groups": 8,
                "num_class_embeds": 16,
            },
            shape=(3, 32, 32),
            labels=faces_data.LABELS,
            steps=3000,
            batch=24,
        ),
        "faces32-dit": Recipe(
            name="faces32-dit",
            data="faces",
            architecture="DiTTransformer2DModel",
            config={
                "sample_size": 32,
                "patch_size": 4,
                "in_channels": 3,
                "out_channels": 3,
                "num_layers": 6,
                "num_attention_heads": 6,
                "attention_head_dim": 32,
                "num_embeds_ada_norm": 16,
            },
            shape=(3, 32, 32),
            labels=faces_data.LABELS,
            steps=4000,
            batch=24,
            learning_rate=1e-3,
            label_dropout=0.1,
        ),
    }
)


def train(
    recipe: Recipe | str,
    *,
    into: str | Path,
    listen: Callable[[Progress], None] = lambda progress: None,
    steps: int | None = None,
    resume: bool = True,
    data: Source | None = None,
) -> Path:
    """Train and write `into/<name>.safetensors` with its card, or a folder of diffusers'; returns that path.

    A model that this very recipe made is not made again.

    Parameters
    ----------
    recipe
        A recipe, or the name of one of RECIPES.
    into
        Folder; the state of an unfinished training lies beside as `<name>.state.safetensors` and goes at the end.
    listen
        Called after each step. An interrupt (Ctrl-C) saves the state between two steps, then is raised.
    steps
        Another number of steps; the decay of the rate moves with it.
    resume
        Whether what is there of the same recipe counts, be it unfinished or finished; what another recipe made is
        then refused. Without it everything is begun anew, and what is there is replaced.
    data
        Where the pictures come from, if not from SOURCES; the recipe's `source` says which they are.
    """
    recipe = named(recipe) if isinstance(recipe, str) else recipe
    recipe = recipe if steps is None else replace(recipe, steps=steps)
    settle()
    path, state_path = target(recipe, into), Path(into) / f"{recipe.name}.state.safetensors"
    if resume and not state_path.exists() and finished.already(path, fingerprint(recipe)):
        return path
    run = _Run(recipe)
    if resume and state_path.exists():
        run.restore(state_path)
    batch = (data or SOURCES[recipe.data])(recipe)
    with _interrupts() as interrupted:
        while run.step < recipe.steps:
            loss = run.advance(*batch(run.step))
            listen(Progress(run.step, recipe.steps, loss))
            if interrupted.is_set() or run.step % recipe.checkpoint == 0:
                run.store(state_path)
            if interrupted.is_set():
                raise KeyboardInterrupt
    _write(recipe, run.average, path)
    state_path.unlink(missing_ok=True)
    return path


def target(recipe: Recipe, into: str | Path) -> Path:
    """Where the model will be."""
    suffix = ".safetensors" if recipe.architecture == architectures.OURS else ""
    return Path(into) / f"{recipe.name}{suffix}"


def _write(recipe: Recipe, average: Mapping[str, Tensor], path: Path) -> None:
    if recipe.architecture == architectures.OURS:
        weights.save(path, average, card(recipe))
        return
    notes = finished.notes(fingerprint(recipe))
    architectures.save_folder(path, recipe.architecture, recipe.config, average, recipe.times, notes=notes)


def named(name: str) -> Recipe:
    """The recipe of that name; a wrong name is refused with the nearest."""
    if name not in RECIPES:
        raise DefinitionError(
            f"There is no recipe {name!r}.",
            consequence="There is nothing to train.",
            remedy=nearest(name, RECIPES),
        )
    return RECIPES[name]


def card(recipe: Recipe) -> ModelCard:
    """The card of the model that the recipe makes, before its fidelity is measured."""
    told = ("data", "steps", "batch", "learning_rate", "average", "time_power", "label_dropout", "seed")
    return ModelCard(
        name=recipe.name,
        architecture="unet",
        config=recipe.config,
        shape=recipe.shape,
        labels=recipe.labels,
        pixel_range=(-1.0, 1.0),
        schedule=recipe.schedule,
        steps=recipe.times,
        prediction="v",
        null_label=recipe.null_label,
        training={name: value for name, value in asdict(recipe).items() if name in told}
        | ({"source": recipe.source} if recipe.source else {})
        | {"recipe": fingerprint(recipe)},
    )


def fingerprint(recipe: Recipe) -> str:
    """Digest of every field that decides the weights."""
    left_out = {"checkpoint"} | ({"architecture"} if recipe.architecture == architectures.OURS else set())
    left_out |= set() if recipe.source else {"source"}
    values = {name: value for name, value in asdict(recipe).items() if name not in left_out}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def averaged(state_path: str | Path) -> dict[str, Tensor]:
    """The averaged weights inside the state of an unfinished training, to look at on the way."""
    tensors = weights.load(state_path)
    return {name.removeprefix("average."): t for name, t in tensors.items() if name.startswith("average.")}


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rate of the step: linear growth, constant, linear decay."""
    growth = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    tail = max(1.0, recipe.decay * recipe.steps)
    return recipe.learning_rate * min(growth, (recipe.steps - step) / tail, 1.0)


class _Run:
    """The tensors of a training between two steps."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.step = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = architectures.fresh(recipe.architecture, recipe.config)
        self.model: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = dict(self.model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.moments = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self.squares = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        times = schedule(recipe.schedule, recipe.times)
        self.bars = np.array([times.alpha_bar(i + 1) for i in range(recipe.times)])

    def advance(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        """One step of Adam; returns the loss before it."""
        noisy, index, label, target = self._examples(images, labels)
        for parameter in self.parameters.values():
            parameter.grad = None
        found = architectures.predicted(self.recipe.architecture, self.model, noisy, index, label)
        loss = nn.functional.mse_loss(found, target)
        loss.backward()  # type: ignore[no-untyped-call]
        self._update()
        self.step += 1
        return float(loss.detach())

    def _examples(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[Tensor, ...]:
        recipe, case = self.recipe, len(labels)
        generator = np.random.Generator(np.random.Philox(key=[recipe.seed, self.step]))
        uniform = (np.arange(case) + generator.random(case)) / case
        index = np.minimum((recipe.times * uniform**recipe.time_power).astype(np.int64), recipe.times - 1)
        dropped = generator.random(case) < recipe.label_dropout
        null = recipe.null_label
        label = labels if null is None else np.where(dropped, null, labels)
        noise = generator.standard_normal(images.shape, np.float32)
        signal, sigma = (
            np.sqrt(part[index]).astype(np.float32)[:, None, None, None]
            for part in (self.bars, 1 - self.bars)
        )
        noisy, target = signal * images + sigma * noise, signal * noise - sigma * images
        picture = [torch.from_numpy(a).contiguous(memory_format=torch.channels_last) for a in (noisy, target)]
        return picture[0], torch.from_numpy(index), torch.from_numpy(label), picture[1]

    @torch.no_grad()
    def _update(self) -> None:
        """Adam (Kingma and Ba, 2015, algorithm 1) and the average, written out so that its state is plain tensors."""
        nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.clip)
        count = self.step + 1
        rate = learning_rate(self.recipe, self.step) / (1 - 0.9**count)
        keep = min(self.recipe.average, count / (count + 9))
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            moment, square = self.moments[name], self.squares[name]
            moment.lerp_(gradient, 0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            root = (square / (1 - 0.999**count)).sqrt_().add_(1e-8)
            parameter.addcdiv_(moment, root, value=-rate)
            self.average[name].lerp_(parameter, 1 - keep)

    def _tables(self) -> dict[str, Mapping[str, Tensor]]:
        return {
            "weights": self.parameters,
            "average": self.average,
            "moments": self.moments,
            "squares": self.squares,
        }

    def store(self, path: Path) -> None:
        """Write the state, at once or not at all."""
        tensors = {
            f"{table}.{name}": t for table, values in self._tables().items() for name, t in values.items()
        }
        weights.write(path, tensors, {"recipe": fingerprint(self.recipe), "step": str(self.step)})

    @torch.no_grad()
    def restore(self, path: Path) -> None:
        """Continue from a state; the copy keeps each tensor's memory layout, on which low bits depend."""
        metadata = weights.read_header(path).metadata
        expected = fingerprint(self.recipe)
        if metadata.get("recipe") != expected:
            raise ModelError(
                f"The unfinished training at {str(path)!r} is of another recipe.",
                consequence="Continuing it would make weights that no recipe makes.",
                remedy="use another folder, remove that file, or pass resume=False",
                evidence=f"recipe {metadata.get('recipe')!r} there, {expected!r} here",
            )
        tensors = weights.load(path)
        for table, values in self._tables().items():
            for name, tensor in values.items():
                tensor.copy_(tensors[f"{table}.{name}"])
        self.step = int(metadata["step"])


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Turn Ctrl-C into a flag while steps run, so that a state is never half a step; main thread only."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: flag.set())
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
