"""What a network of one's own must keep for its profile to be true, tried before a run is paid for.

A run puts rows of several cases and states into one batch, pads it with copies, and promises that a cell has the
same bits now, later, alone and among others. That holds only for a network whose rows know nothing of each other
and that gives the same twice. Two small batches show it: one of rows that all differ, one of copies of its last row.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from flowprofile.errors import DefinitionError, FlowProfileError
from flowprofile.models.card import ModelCard
from flowprofile.models.numerics import THREADS
from flowprofile.time.noise import noise_batch
from flowprofile.time.sample import CANONICAL_BATCH

Predict: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What the network puts out for x[row channel y x], index[row] and label[row]."""

ROUNDING: Final = 1e-5
"""Share of a row's largest value up to which a difference is one of rounding."""


def tried(predict: Predict, module: nn.Module, card: ModelCard) -> None:
    """Call a network twice, on one canonical batch each; refuse one that a run cannot use.

    Warns where a row's last bits depend on its place in the batch.

    Raises
    ------
    DefinitionError
        It cannot be called, writes into x, or gives a row other values beside other rows, or a second time.
    """
    mixed = _different(card)
    alike = tuple(rows[-1:].repeat(len(rows), *(1,) * (rows.ndim - 1)) for rows in mixed)
    given = mixed[0].clone()
    try:
        with torch.no_grad(), _threads_of_a_run():
            among = predict(*mixed)[-1:].clone()
            copies = predict(*alike)
    except FlowProfileError:
        raise
    except Exception as error:
        raise _uncallable(module, card, error) from error
    if not torch.equal(mixed[0], given):
        raise DefinitionError(
            f"The network {card.name!r} writes into the x it is given.",
            consequence="The state of the sample would change while it is looked at.",
            remedy="give it a copy: begin its forward with x = x.clone()",
        )
    _rows_are_their_own(card, among, copies)


@contextmanager
def _threads_of_a_run() -> Iterator[None]:
    """Last bits depend on how many threads share a batch; a run settles that, and the caller keeps her own number."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_its_shape(out: Any, x: Tensor, name: str) -> Tensor:
    """A network's output, refused unless it is a tensor of x's own shape and type."""
    if isinstance(out, Tensor) and out.shape == x.shape and out.dtype == x.dtype:
        return out
    if not isinstance(out, Tensor):
        gives, remedy = (
            f"a {type(out).__name__}",
            "return the tensor alone, for instance net(x, index).sample",
        )
    elif out.shape != x.shape:
        gives = f"the shape {list(out.shape)} for x of {list(x.shape)}"
        remedy = (
            "return eps, v or x0 in x's own shape; of a network that also predicts a variance, its first half"
        )
    else:
        gives, remedy = f"{out.dtype} for x of {x.dtype}", "return it in x's own type: out.to(x.dtype)"
    raise DefinitionError(
        f"The network {name!r} puts out {gives}.",
        consequence="No step can be taken with it.",
        remedy=f"{remedy}; wrap the network in a module whose forward does so",
    )


def _different(card: ModelCard) -> tuple[Tensor, Tensor, Tensor]:
    """A canonical batch of rows of noise that share neither x nor, as far as there are several, index or label.

    The first row has the null label, where there is one.
    """
    rows = CANONICAL_BATCH
    x = torch.from_numpy(noise_batch(range(rows), card.steps, card.shape))
    index = torch.from_numpy(np.linspace(card.steps - 1, 0, rows).astype(np.int64))
    index = (index + 1).float() if card.prediction == "flow" else index
    label = torch.arange(rows, dtype=torch.int64) % card.labels.count
    if card.null_label is not None:
        label[0] = card.null_label
    return x, index, label


def _uncallable(module: nn.Module, card: ModelCard, error: Exception) -> DefinitionError:
    weights = [tensor for tensor in module.state_dict().values() if tensor.is_floating_point()]
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in weights} - {"float32"}
    devices = {tensor.device.type for tensor in weights} - {"cpu"}
    remedy = f"try net(torch.zeros(8, {', '.join(map(str, card.shape))}), index, label) with both int64 of shape [8]"
    if devices:
        remedy = f"its weights are on {min(devices)!r}, and runs are computed on the CPU: net.cpu()"
    elif types:
        remedy = (
            f"its weights are {min(types)}, and states are float32: net.float(), or a module around it"
            " whose forward casts x, and casts back what comes out"
        )
    known = f"{card.labels.count} are given" + (
        "" if card.null_label is None else f", and the null label {card.null_label}"
    )
    return DefinitionError(
        f"The network {card.name!r} cannot be called on x of {[CANONICAL_BATCH, *card.shape]}, index and label.",
        consequence="No step can be taken with it.",
        remedy=f"{remedy}; check the shape and how many classes it knows ({known})",
        evidence=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
    )


def _rows_are_their_own(card: ModelCard, among: Tensor, copies: Tensor) -> None:
    """Compare a row among others with copies of it, bit by bit."""
    if all(row.numpy().tobytes() == among[0].numpy().tobytes() for row in copies):
        return
    apart = float((copies.double() - among.double()).abs().nan_to_num(torch.inf).max())
    largest = float(among.double().abs().max())
    evidence = f"the same row differs by {apart:.2g}, its largest value being {largest:.2g}"
    if not apart <= ROUNDING * largest:
        raise DefinitionError(
            f"The network {card.name!r} does not give a row the same values among other rows, or a second time.",
            consequence="What is stored of a case would depend on what was computed beside it.",
            remedy="leave out what is random, and what mixes the rows of a batch (means over them, index[0] for all);"
            " index and label have one value for each row",
            evidence=evidence,
        )
    warnings.warn(
        f"In the network {card.name!r} the last bits of a row depend on its place in the batch: {evidence}. A case"
        " computed again in another order may differ in them.",
        RuntimeWarning,
        stacklevel=4,
    )
