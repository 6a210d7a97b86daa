"""What may be said of an axis: every spelling of a selection, as the axis' own values.

Nothing here knows a node, but where its coordinates are; what an argument means is settled before any node is asked.
"""

import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.axes import GUIDANCE, INTERVENTION, LABEL, LAYER, PIXEL, SEED, TIME
from flowprofile.errors import DefinitionError, nearest

Names = str | Collection[str]
TITLE: Final = "title"
"""The coordinate beside interventions that says what their definitions called them."""
FEW: Final = 8
"""So many values are looked for one by one."""


@dataclass(frozen=True)
class Labels:
    """The labels of a run, and which attributes each has set."""

    numbers: npt.NDArray[np.int64]
    attributes: Mapping[str, npt.NDArray[np.bool_]]
    """Most significant bit first."""
    prompts: Mapping[str, int] = field(default_factory=dict)
    """Numbers by prompt, of a model that is told texts."""


@dataclass(frozen=True)
class Choice:
    """What was asked for along an axis, in the axis' own values."""

    axis: str
    values: tuple[Any, ...] = ()
    """Numbers, names or globs, or pixels as numbers or (y, x)."""
    span: slice | None = None
    """Instead of values: a range of numbers, both ends included."""
    single: bool = False
    ordered: bool = True
    """Whether the order of the values is to be kept."""

    def __str__(self) -> str:
        if self.span is not None:
            return f"{self.axis} {self.span.start}:{self.span.stop}"
        return f"{self.axis} {self.values[0] if self.single else list(self.values)!r}"

    def positions(self, data: xr.Dataset) -> tuple[list[int], list[Any]]:
        """Where what was asked for stands along the axis, and what of it does not."""
        if self.span is not None:
            return np.flatnonzero(self._inside(data, self.span))[:: self.span.step].tolist(), []
        found = {v: at or self._meant(v, data) for v, at in self._named(data).items()}
        places = list(dict.fromkeys(at for hits in found.values() for at in hits))
        return places if self.ordered else sorted(places), [v for v, hits in found.items() if not hits]

    def key(self, places: Sequence[int], data: xr.Dataset) -> Any:
        """Positions as a key; one number drops the axis, unless it is a glob that happened to find one."""
        globbed = self.axis in (INTERVENTION, LAYER) and self.values[0] not in _known(data, self.axis)
        return places[0] if self.single and not globbed else list(places)

    def _named(self, data: xr.Dataset) -> dict[Any, list[int]]:
        """Where each value stands that is one of the axis' own; a few of many are not worth a table of all."""
        known = np.atleast_1d(data.coords[self.axis].values)
        if known.dtype.kind == "i" and len(self.values) <= FEW:
            return {v: np.flatnonzero(known == v).tolist() if isinstance(v, int) else [] for v in self.values}
        where = {value: at for at, value in enumerate(known.tolist())}
        return {v: [where[v]] if v in where else [] for v in self.values}

    def _inside(self, data: xr.Dataset, span: slice) -> npt.NDArray[np.bool_]:
        known = np.atleast_1d(data.coords[self.axis].values)
        low, high = (span.stop, span.start) if self.axis == TIME else (span.start, span.stop)
        keep = np.ones(len(known), bool)
        if low is not None:
            keep &= known >= low
        return keep if high is None else keep & (known <= high)

    def _meant(self, value: Any, data: xr.Dataset) -> list[int]:
        """Where what a pair, a glob or a title means stands; a title is looked for where no name is meant."""
        if isinstance(value, tuple):
            pairs = zip(_known(data, "pixel_y"), _known(data, "pixel_x"), strict=True)
            return [at for at, pair in enumerate(pairs) if pair == value]
        if not isinstance(value, str):
            return []
        named = [at for at, name in enumerate(_known(data, self.axis)) if like(name, value)]
        return named or [at for at, title in enumerate(_titles(data, self.axis)) if like(title, value)]


def _known(data: xr.Dataset, name: str) -> list[Any]:
    return np.atleast_1d(data.coords[name].values).tolist()  # type: ignore[no-any-return]  # as NumPy says


def _titles(data: xr.Dataset, axis: str) -> list[str]:
    """What the definitions called the values of an axis; several may share one."""
    return _known(data, TITLE) if axis == INTERVENTION and TITLE in data.coords else []


def said_of(data: xr.Dataset, axis: str) -> list[Any]:
    """Everything by which a value of an axis may be named."""
    return list(dict.fromkeys((*_known(data, axis), *_titles(data, axis))))


def like(name: str, glob: str) -> bool:
    """Whether a glob means a name; brackets mean themselves, since names have them: ``zero mid.fn[3]``."""
    return fnmatchcase(name, glob.replace("[", "[[]"))


def texts(what: str, value: Names) -> list[str]:
    """Names as a list."""
    names = [value] if isinstance(value, str) else _list_of(value)
    if not names or not all(isinstance(name, str) for name in names):
        raise DefinitionError(
            f"The {what} are asked for as {value!r}.", remedy="give a name, or a list of names"
        )
    return names


def seeds_of_images(value: Names, images: Mapping[int, str]) -> list[int]:
    """The seeds that stand for images, by name or glob, in the order in which they are named.

    Raises
    ------
    DefinitionError
        For a name that no image has.
    """
    found: dict[int, None] = {}
    for name in texts("images", value):
        exact = [seed for seed, image in images.items() if image == name]
        seeds = exact or [seed for seed, image in images.items() if like(image, name)]
        if not seeds:
            raise DefinitionError(
                f"No image is called {name!r}.",
                remedy=nearest(name, dict.fromkeys(images.values()))
                if images
                else "the seeds of this run are of noise, not of given images: select by seed",
            )
        found.update(dict.fromkeys(seeds))
    return list(found)


def _list_of(value: object) -> list[Any]:
    return list(value) if isinstance(value, Iterable) else []


def choose(axis: str, value: Any, labels: Callable[[], Labels]) -> Choice:
    """The choice an argument stands for.

    Raises
    ------
    DefinitionError
        Saying what can be asked of this axis.
    """
    if isinstance(value, slice):
        return _span(axis, value)
    items, single = _items(axis, value)
    if axis == LABEL:
        items, single = _label_numbers(items, single, labels)
    else:
        items = [_READ[axis](axis, item) for item in items]
    twice = [item for item, count in Counter(items).items() if count > 1]
    if twice:
        raise DefinitionError(
            f"The {axis} {twice[0]!r} is asked for twice.",
            consequence="Its cells would count twice in every mean.",
            remedy="name it once",
        )
    return Choice(axis, tuple(items), single=single, ordered=not isinstance(value, set | frozenset))


def _items(axis: str, value: Any) -> tuple[list[Any], bool]:
    """What was asked for one by one, and whether it is a single value."""
    if isinstance(value, np.ndarray | xr.DataArray):
        array = np.asarray(value)
        if array.ndim == 0:
            return [array.item()], True
        items = list(map(tuple, array.tolist())) if axis == PIXEL and array.ndim == 2 else array.tolist()
    elif isinstance(value, Mapping):
        raise _odd(axis, value)
    elif isinstance(value, str | bytes) or not isinstance(value, Iterable) or _is_pair(axis, value):
        return [value], True
    else:
        items = list(value)
    if not items:
        raise DefinitionError(
            f"The {axis} is asked for as {value!r}, which names none.",
            consequence="Nothing would be selected.",
            remedy="leave the argument out for all, or name at least one"
            + ("; the label without attributes is 0" if axis == LABEL else ""),
        )
    return items, False


def _is_pair(axis: str, value: Any) -> bool:
    """Whether this is one pixel, (y, x)."""
    numbers = isinstance(value, tuple) and not any(isinstance(part, Iterable) for part in value)
    return axis == PIXEL and numbers and len(value) == 2


def _span(axis: str, span: slice) -> Choice:
    """A slice of numbers, in the order of the axis."""
    if axis not in (TIME, SEED, LABEL):
        raise _odd(axis, span)
    start, stop, step = (None if n is None else _number(axis, n) for n in (span.start, span.stop, span.step))
    if start is not None and stop is not None and (start < stop if axis == TIME else start > stop):
        remedy = (
            f"time descends: write slice({stop}, {start})"
            if axis == TIME
            else f"write slice({stop}, {start})"
        )
        raise DefinitionError(
            f"The {axis}s {start}:{stop} {'ascend' if axis == TIME else 'descend'}.", remedy=remedy
        )
    if step is not None and step < 1:
        raise DefinitionError(
            f"The {axis}s are asked for in steps of {step}.", remedy="give a step of at least 1"
        )
    return Choice(axis, span=slice(start, stop, step))


def _number(axis: str, item: Any) -> int:
    if not isinstance(item, bool | np.bool_ | str | bytes):
        try:
            return operator.index(item)
        except TypeError:
            pass
    raise _odd(axis, item)


def _name(axis: str, item: Any) -> str:
    """A name, or what has one: an intervention."""
    text = item if isinstance(item, str) else getattr(item, "name", None)
    if not isinstance(text, str) or not text:
        raise _odd(axis, item)
    return text


def _pixel(axis: str, item: Any) -> int | tuple[int, int]:
    if not isinstance(item, Collection):
        return _number(axis, item)
    if len(item) != 2 or isinstance(item, set | frozenset | str | bytes):
        raise _odd(axis, item)
    y, x = item
    return _number(axis, y), _number(axis, x)


def _label_numbers(
    items: Sequence[Any], single: bool, labels: Callable[[], Labels]
) -> tuple[list[int], bool]:
    """Labels as numbers; names that stand side by side say one label together."""
    if any(isinstance(item, str) for item in items) and labels().prompts:
        return [_prompted(item, labels().prompts) for item in items], single
    names = [item for item in items if isinstance(item, str) and set(item) - {"0", "1"}]
    if names and len(names) < len(items):
        raise DefinitionError(
            f"Labels are asked for as {list(items)!r}: names of attributes beside whole labels.",
            consequence="Names in a list say one label together, the one with these attributes set.",
            remedy=f"write each label by itself: [[{names[0]!r}], ...]",
        )
    if names:
        return [_label_named(names, labels())], True
    return [_label_number(item, labels) for item in items], single


def _label_number(item: Any, labels: Callable[[], Labels]) -> int:
    if isinstance(item, str) and item:
        known = list(labels().attributes)
        if known and len(item) != len(known):
            raise DefinitionError(
                f"The label {item!r} has {len(item)} bits, this run's labels have {len(known)}.",
                remedy=f"give one bit for each of {', '.join(known)}",
            )
        return _label_named([name for name, bit in zip(known, item, strict=False) if bit == "1"], labels())
    if isinstance(item, Collection) and item and all(isinstance(part, str) for part in item) and item != "":
        return _label_named(list(item), labels())
    return _number(LABEL, item)


def _prompted(item: Any, prompts: Mapping[str, int]) -> int:
    if not isinstance(item, str):
        return _number(LABEL, item)
    if item not in prompts:
        raise DefinitionError(f"The prompt {item!r} is not stored.", remedy=nearest(item, prompts))
    return prompts[item]


def _label_named(names: Sequence[str], labels: Labels) -> int:
    """The number of the label with these attributes and no others."""
    if not labels.attributes:
        raise DefinitionError(
            "This run's labels have no attributes.", remedy="select labels by number, for instance label=6"
        )
    for name in names:
        if name not in labels.attributes:
            raise DefinitionError(
                f"This run's labels have no attribute {name!r}.", remedy=nearest(name, labels.attributes)
            )
    same = np.logical_and.reduce([has == (name in names) for name, has in labels.attributes.items()])
    if same.sum() != 1:
        raise DefinitionError(
            f"The label {' + '.join(names) or 'without attributes'!r} is not stored.",
            remedy=f"stored are {labels.numbers.tolist()}",
        )
    return int(labels.numbers[same][0])


_READ: Mapping[str, Callable[[str, Any], Any]] = {
    TIME: _number, SEED: _number, INTERVENTION: _name, LAYER: _name, PIXEL: _pixel, GUIDANCE: _name
}  # fmt: skip
_SAID = {
    TIME: "a state t such as 500, a list of states, or slice(800, 600)",
    SEED: "a whole number, a list of them, or a slice",
    LABEL: "a number, bits such as '0110', names of attributes, a prompt, a list of these, or a slice of numbers",
    INTERVENTION: "a name, a glob such as 'switch*', a title of the definition, or a list of these",
    LAYER: "a name, a glob such as '*.fn', or a list of these",
    PIXEL: "(y, x), a pixel's number, or a list of these",
    GUIDANCE: "'uncond' or 'cond', or a list of these",
}


def _odd(axis: str, value: Any) -> DefinitionError:
    return DefinitionError(
        f"The {axis} is asked for as {value!r}.",
        consequence="What that selects would be a guess.",
        remedy=f"give {_SAID[axis]}",
    )
