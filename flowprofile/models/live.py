"""A network that the caller has in her hands, made into a model that can be profiled and recognised again.

Its identity is the content of its weights and the source of its class, so a live network that was trained a
little further is another model, and the same network in another process is the same. It stays the caller's: it is
called in evaluation mode and without gradients for its weights, and both are as they were after every call.
"""

import hashlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import DefinitionError
from flowprofile.models import contract, weights
from flowprofile.models.card import ModelCard
from flowprofile.models.denoiser import NetworkDenoiser
from flowprofile.models.sites import places


class LiveDenoiser(NetworkDenoiser):
    """A network of the caller's, which no call leaves changed."""

    def _predicted(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        with still(self._network):
            return contract.in_its_shape(self._network(x, index, label), x, self.card.name)


def denoiser(
    module: nn.Module,
    shape: tuple[int, int, int],
    *,
    classes: int = 1,
    attributes: Sequence[str] = (),
    null_label: int | None = None,
    prediction: str = "eps",
    schedule: str = "linear",
    steps: int = 1000,
    pixel_range: tuple[float, float] = (-1.0, 1.0),
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> LiveDenoiser:
    """Wrap a network that is called as ``module(x, index, label)``.

    The network is called twice, on eight rows of noise each, to see that it can be used. It is neither changed nor
    copied: every call is made in evaluation mode, and leaves mode and `requires_grad` as they were.

    Parameters
    ----------
    module
        Gets x [case, channel, y, x] float32, the network index i = t - 1 [case] and the label [case], both int64, on
        the CPU, and returns a tensor like x. Rows of one call belong to different cases, states and labels.
    shape
        Channel, y, x of one sample.
    classes, attributes
        What labels mean: a number of classes, by default the one class 0; or the names of the bits, most significant
        first.
    null_label
        The number that stands for no label at all, of a network that was trained with some labels left out; guidance
        needs one. No label of the space: `classes`, for one.
    prediction
        What the network puts out: 'eps', 'v', 'x0', or 'flow', the velocity eps - x_0 of flow matching. Such a network
        is told t = T sigma as float32 in place of the index, and its `schedule` is 'flow'.
    schedule, steps
        The noise schedule it was trained for.
    pixel_range
        Values of black and white.
    name
        How reports call it; by default its class.
    config
        Anything else that decides what it computes, as JSON values; becomes part of its identity.

    Raises
    ------
    ModelError
        For a null label that is a label.
    DefinitionError
        For arguments that make no sense, and for a network that cannot be called so, puts out another shape or type,
        or whose rows depend on each other or on chance (`models.contract`).
    """
    _is_a_network(module)
    card = ModelCard(
        name=name or type(module).__name__,
        architecture="module",
        config=dict(config or {}),
        shape=_sizes(shape),
        labels=_labels(classes, attributes),
        pixel_range=_ascending(pixel_range),
        schedule="flow" if prediction == "flow" else schedule,
        steps=steps,
        prediction=prediction,
        null_label=_nothing(null_label),
    )
    _written(card)
    live = LiveDenoiser(module, card)
    contract.tried(live._predicted, module, card)
    live.places = places(live)
    return live


@contextmanager
def still(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and no gradients for weights, while it lasts; part by part as it was afterwards.

    The flags are set directly: a `train` of one's own may do more than that.
    """
    training = _training(module)
    asking = [one for one in module.parameters() if one.requires_grad] if torch.is_grad_enabled() else []
    try:
        for part in training:
            _set_training(part, False)
        for weight in asking:
            weight.requires_grad = False
        yield
    finally:
        for part in training:
            _set_training(part, True)
        for weight in asking:
            weight.requires_grad = True


def _training(module: nn.Module) -> list[nn.Module]:
    """The parts in train mode; `modules()` would take four times as long, in every call."""
    found, left = [], [module]
    while left:
        part = left.pop()
        if part.training:
            found.append(part)
        left += [child for child in part._modules.values() if child is not None]
    return found


def _set_training(part: nn.Module, training: bool) -> None:
    """Past `Module.__setattr__`, which takes longer than all else here; a scripted module keeps its flag elsewhere."""
    if "training" in vars(part):
        vars(part)["training"] = training
    else:
        part.training = training


def _is_a_network(module: object) -> None:
    if isinstance(module, nn.Module):
        return
    raise DefinitionError(
        f"A live model is a torch.nn.Module, not a {type(module).__name__}.",
        consequence="It has no weights by which it could be recognised, and no layers to look at.",
        remedy="flowprofile.load takes names and files; a function becomes a network as the forward of a Module",
    )


def _sizes(shape: object) -> tuple[int, int, int]:
    sizes = tuple(shape) if isinstance(shape, Sequence) and not isinstance(shape, str) else ()
    if len(sizes) == 3 and all(type(size) is int and size >= 1 for size in sizes):
        return sizes
    raise DefinitionError(
        f"The shape {shape!r} is not (channel, y, x).",
        consequence="It is not known what noise to begin with.",
        remedy="give three sizes of at least 1, for instance (3, 32, 32)",
    )


def _labels(classes: int, attributes: Sequence[str]) -> LabelSpace:
    if isinstance(attributes, str):
        raise DefinitionError(
            f"attributes={attributes!r} is one text, and would be taken for its letters.",
            consequence="There would be an attribute for each of them.",
            remedy=f"give a tuple: attributes=({attributes!r},)",
        )
    if attributes and classes != 1:
        raise DefinitionError(
            f"Both classes={classes!r} and attributes={tuple(attributes)!r} are given.",
            consequence="A label would mean two things.",
            remedy="give one of the two",
        )
    return LabelSpace(tuple(attributes)) if attributes else LabelSpace(classes=classes)


def _nothing(null_label: object) -> int | None:
    if null_label is None or type(null_label) is int:
        return null_label
    raise DefinitionError(
        f"The null label {null_label!r} is not a whole number.",
        consequence="The network is told labels as int64.",
        remedy="give the number with which it was trained without a label, or leave null_label out",
    )


def _ascending(pixel_range: object) -> tuple[float, float]:
    ends = tuple(pixel_range) if isinstance(pixel_range, Sequence) else ()
    if len(ends) == 2 and all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
        low, high = ends
        if low < high:
            return low, high
    raise DefinitionError(
        f"The pixel range {pixel_range!r} does not go from black up to white.",
        consequence="Pictures would be inverted or empty, and measures of them scaled by nothing.",
        remedy="give two finite numbers, the smaller first: (-1.0, 1.0) or (0.0, 1.0)",
    )


def _written(card: ModelCard) -> None:
    """Refuse a card that cannot be written down: its text is part of the identity."""
    try:
        card.identity_json()
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"The config of {card.name!r} cannot be written as JSON.",
            consequence="The model could not be told from another one.",
            remedy="use numbers, text, truth values, lists and tables",
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def identity(model: Any) -> str:
    """Digest of a live model: card, source and plain attributes of its classes, parameters and buffers.

    What none of them tells (a closure, a hook of one's own, a buffer that is not saved) belongs into `config`.
    """
    digest = hashlib.sha256(model.card.identity_json().encode())
    module = getattr(model, "module", None)
    described: Any = type(module) if isinstance(module, nn.Module) else type(model)
    try:
        digest.update(inspect.getsource(described).encode())
    except (OSError, TypeError):
        digest.update(described.__qualname__.encode())
    if isinstance(module, nn.Module):
        digest.update(weights.digest(_contents(module)).encode())
        for name, part in module.named_modules():
            digest.update(f"{name} {_built(part)}".encode())
    return digest.hexdigest()


def _built(module: nn.Module) -> str:
    """What a module is besides its weights: its class, the class's source where it is not torch's, plain attributes."""
    kind = type(module)
    source = ""
    if not kind.__module__.startswith("torch."):
        try:
            source = inspect.getsource(kind)
        except (OSError, TypeError):
            source = ""
    plain = {
        name: value
        for name, value in sorted(vars(module).items())
        if isinstance(value, bool | int | float | str | tuple) and name != "training"
    }
    return f"{kind.__module__}.{kind.__qualname__} {module.extra_repr()} {plain!r} {source}"


def _contents(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
