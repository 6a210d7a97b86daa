"""A network that the caller has in her hands, made into a model that can be profiled and recognised again.

Its identity is the content of its weights and the source of its class, so a live network that was trained a
little further is another model, and the same network in another process is the same.
"""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.models import weights
from flowprofile.models.card import ModelCard
from flowprofile.models.denoiser import NetworkDenoiser


def denoiser(
    module: nn.Module,
    shape: tuple[int, int, int],
    *,
    classes: int = 1,
    attributes: Sequence[str] = (),
    prediction: str = "eps",
    schedule: str = "linear",
    steps: int = 1000,
    pixel_range: tuple[float, float] = (-1.0, 1.0),
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> NetworkDenoiser:
    """Wrap a network that is called as ``module(x, index, label)``.

    Parameters
    ----------
    module
        Gets x [case, channel, y, x] float32, the network index i = t - 1 [case] and the label [case], both int64.
    shape
        Channel, y, x of one sample.
    classes, attributes
        What labels mean: a number of classes, or the names of the bits, most significant first.
    prediction
        What the network puts out: 'eps', 'v' or 'x0'.
    schedule, steps
        The noise schedule it was trained for.
    pixel_range
        Values of black and white.
    name
        How reports call it; by default its class.
    config
        Anything else that decides what it computes; becomes part of its identity.
    """
    card = ModelCard(
        name=name or type(module).__name__,
        architecture="module",
        config=dict(config or {}),
        shape=shape,
        labels=LabelSpace(tuple(attributes)) if attributes else LabelSpace(classes=classes),
        pixel_range=pixel_range,
        schedule=schedule,
        steps=steps,
        prediction=prediction,
    )
    return NetworkDenoiser(module.eval().requires_grad_(requires_grad=False), card)


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
