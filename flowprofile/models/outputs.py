"""What modules put out: a tensor, or a tuple, mapping or object that holds one.

Reading must not change a run and changing must not reach back: what is taken lies in memory of its own, and an edit
that writes into the tensor it is given is found out by torch's version counter.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from flowprofile.errors import DefinitionError


def edited(name: str, edit: Callable[[Tensor], Tensor], value: Tensor, *, in_place: bool) -> Tensor:
    """What an edit makes of an output, as a new tensor; or written into that output, as the thesis' code does.

    An edit that writes into what it is given, or gives another shape or type, is refused.
    """
    before = _version(value)
    new = edit(value)
    overwritten = _version(value) != before
    if overwritten or new.shape != value.shape or new.dtype != value.dtype:
        fact = "writes into the output" if overwritten else f"gives {_told(new)} for {_told(value)}"
        raise DefinitionError(
            f"The edit of {name!r} {fact}.",
            consequence="An edit in place also changes the layer's input where the layer is an Identity, and another"
            " shape or type does not fit what follows.",
            remedy="return a new tensor of the same shape and type; in_place=True is the thesis' defect, by name",
        )
    return value.copy_(new) if in_place else new


def taken(name: str, reduce: Callable[[Tensor], Any] | None, value: Tensor) -> Tensor | None:
    """A detached output or its reduction, in memory of its own; a reduction that writes into it is refused.

    A reduction that gives None has put away itself what it wants.
    """
    value = value.detach() if value.requires_grad else value
    if reduce is None:
        return value.clone()
    before = _version(value)
    kept = torch.no_grad()(reduce)(value) if torch.is_grad_enabled() else reduce(value)
    if kept is None and _version(value) == before:
        return None
    if _version(value) != before or not isinstance(kept, Tensor):
        does = f"gives a {_told(kept)}" if not isinstance(kept, Tensor) else "writes into the layer's output"
        raise DefinitionError(
            f"The reduction at {name!r} {does}.",
            consequence="Listening would change the run, or wait for the device at every layer.",
            remedy="return a new tensor: clamp instead of clamp_, amax() without item()",
        )
    return kept.clone() if _shares(kept, value) else kept


def held(value: Tensor) -> tuple[Tensor, Tensor]:
    """An output with its graph, twice: what to take gradients at, and what the network goes on with.

    The first copy parts the layer from its input where it is an Identity, so that a gradient at the layer is not one
    at the skip as well; the second is what later in-place operations may write to. Where neither the input nor the
    weights ask for gradients, the graph begins here.
    """
    kept = value.clone()
    if kept.is_floating_point() and not kept.requires_grad:
        kept.requires_grad_()
    return kept, kept.clone()


def _shares(kept: Tensor, value: Tensor) -> bool:
    """Whether one tensor lies in the memory of another; asking for the storages costs ten times as much."""
    if not value.is_contiguous():
        return kept.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
    return 0 <= kept.data_ptr() - value.data_ptr() < value.nbytes


def _version(value: Tensor) -> int:
    return 0 if value.is_inference() else value._version


def _told(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def on_grid(tokens: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """Tokens [lane token channel] as the picture [lane channel y x] they are, row by row; without a grid as they are."""
    if grid is None:
        return tokens
    lanes, _, channels = tokens.shape
    return tokens.transpose(1, 2).reshape(lanes, channels, *grid)


def off_grid(picture: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """The tokens of a picture: `on_grid` undone."""
    return picture if grid is None else picture.flatten(2).transpose(1, 2)


def part(out: Any, select: int | str | None, name: str) -> Tensor:
    """The tensor that is meant."""
    if isinstance(out, Tensor) and select is None:
        return out
    found = None
    if select is not None and not isinstance(out, Tensor):
        try:
            by_name = isinstance(select, str) and not isinstance(out, Mapping)
            found = getattr(out, str(select)) if by_name else out[select]
        except (AttributeError, IndexError, KeyError, TypeError):
            found = None
    if isinstance(found, Tensor):
        return found
    inside = f": {', '.join(_told(one) for one in out)}" if isinstance(out, tuple | list) else ""
    raise DefinitionError(
        f"{name!r} puts out {_told(out)}{inside}; select={select!r} is no tensor of it.",
        consequence="There is no saying which tensor is meant.",
        remedy="leave select out"
        if isinstance(out, Tensor)
        else f"say which: Tap({name!r}, select=0), or a name if it has names",
    )


def replaced(out: Any, select: int | str | None, new: Tensor) -> Any:
    """The output with one tensor exchanged, in a new container."""
    if isinstance(out, Tensor):
        return new
    if isinstance(out, tuple | list):
        fields = list(getattr(out, "_fields", ()))
        at = fields.index(select) if isinstance(select, str) else int(select or 0)
        values: list[Any] = list(out)
        values[at] = new
        return type(out)(*values) if fields else type(out)(values)
    fresh = copy.copy(out)
    if isinstance(out, Mapping):
        fresh[list(out)[select] if isinstance(select, int) else select] = new
    else:
        setattr(fresh, str(select), new)
    return fresh
