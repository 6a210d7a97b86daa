"""The single things that can be done to a model while it samples, as frozen values.

A part is made canonical when it is made: channels sorted and each once, numbers rounded to what the network can tell
apart, a span of the whole run left out. So equal parts are written alike, and `str(part)` can be part of a name that
decides what is stored where. Whatever has no place in a name (spaces, brackets, signs) is told apart by a digest.
"""

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from flowprofile.cases import Case
from flowprofile.errors import DefinitionError, nearest

ALWAYS: Final = 2**31 - 1
"""The first state of a span that begins with the run."""
STATISTICS: Final = ("sum", "abs", "max", "mean_top")
"""What can make a channel strong; see `objects.probes.MaxChannel`."""
MODES: Final = ("zero", "mean", "scale")
_SHOWN: Final = 8
"""So many numbers are written out in a name; more become a range or a digest."""


@dataclass(frozen=True)
class Span:
    """States t, both ends included, in the order of generation: the steps into them are concerned."""

    first: int = ALWAYS
    last: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.last <= self.first:
            raise DefinitionError(
                f"A span cannot run from t = {self.first!r} to t = {self.last!r}.",
                consequence="No step would be concerned.",
                remedy="t counts down: give the higher state first, and the last one of at least 0",
            )

    def __contains__(self, t: int) -> bool:
        return self.last <= t <= self.first

    def __str__(self) -> str:
        if self == WHOLE:
            return ""
        if self.first == ALWAYS:
            return f" t>={self.last}"
        return f" t<={self.first}" if self.last == 0 else f" t={self.first}..{self.last}"


WHOLE: Final = Span()
"""The whole run."""


OWN: Final = {"activation": "max_channel", "gradient": "gradient_channel"}
"""How a definition names a sample's own strongest channel, by what is the strongest."""


@dataclass(frozen=True)
class OwnChannel:
    """Each sample's own strongest channel, read off its clean run."""

    time: int
    """The state t whose step is looked at."""
    mask: str | None = None
    """Name of the mask within which it is the strongest."""
    statistic: str = "sum"
    """What makes a channel strong, one of `STATISTICS`."""
    digest: str = ""
    """Digest of the mask's content."""
    of: str = "activation"
    """What is the strongest there: the layer's ``activation`` within the mask, or the ``gradient`` of the mask's
    pixels of x_t at the layer."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", _counted("time of a strongest channel", self.time))
        _one_of("statistic", self.statistic, STATISTICS)
        _one_of("kind of strongest channel", self.of, tuple(OWN))

    def __str__(self) -> str:
        statistic = "" if self.statistic == "sum" else f":{self.statistic}"
        return f"{OWN[self.of]}{statistic}@{self.time}{_masked('/', self.mask, self.digest)}"


@dataclass(frozen=True)
class Flip:
    """The label with some of its bits turned over."""

    bits: int
    """The bits to turn, as a number."""

    def __post_init__(self) -> None:
        if self.bits < 1:
            raise DefinitionError(
                f"A flip of the bits {self.bits!r} turns none over.",
                consequence="The label would stay what it is.",
                remedy="give a number of at least 1; bit 0 is the last attribute",
            )

    def __str__(self) -> str:
        return f"flip{self.bits:b}"


@dataclass(frozen=True)
class Difference:
    """Mean activation of one group of clean cases minus that of another, at one state, [channel]."""

    plus: tuple[int, ...]
    """Labels of the first group."""
    minus: tuple[int, ...]
    """Labels of the second."""
    time: int
    """The state t whose step is looked at."""
    seeds: tuple[int, ...]
    """Seeds of both groups."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", _counted("time of a difference", self.time))
        for group in ("plus", "minus", "seeds"):
            object.__setattr__(self, group, _numbers(f"{group} of a difference", getattr(self, group)))
        if self.plus == self.minus:
            raise DefinitionError(
                f"The difference of the labels {list(self.plus)} and themselves is nothing.",
                consequence="There is no direction to steer in.",
                remedy="give different labels as plus and minus",
            )

    def __str__(self) -> str:
        return f"({_listed(self.plus)}-{_listed(self.minus)})@{self.time}/{_listed(self.seeds)}"


@dataclass(frozen=True)
class Ablation:
    """Channels of a layer's output, set to zero or to their spatial mean, or scaled.

    >>> str(Ablation("mid_attn.fn", (17, 3, 3), "mean", span=Span(700, 400)))
    'mean mid_attn.fn[3,17] t=700..400'
    """

    layer: str
    channels: tuple[int, ...] | OwnChannel
    mode: Literal["zero", "mean", "scale"] = "zero"
    factor: float = 1.0
    """Of mode "scale"; 0 is mode "zero", and 1 changes nothing, as a control may want."""
    span: Span = WHOLE
    """When it is in force; None stands for the whole run."""
    mask: str | None = None
    """Name of the mask outside which nothing is changed."""
    mask_digest: str = ""
    """Digest of that mask's content."""

    def __post_init__(self) -> None:
        _one_of("mode of an ablation", self.mode, MODES)
        _named(self.layer)
        if not isinstance(self.channels, OwnChannel):
            _set(self, channels=_numbers(f"channels of {self.layer!r}", self.channels))
        factor = _finite(self.factor, "factor", self.layer) if self.mode == "scale" else 1.0
        mode = "zero" if factor == 0.0 else self.mode
        _mask_name(self.mask, self.layer)
        _set(self, span=_span(self.span), mode=mode, factor=factor if mode == "scale" else 1.0)

    def __str__(self) -> str:
        verb = f"scale({_number(self.factor)})" if self.mode == "scale" else self.mode
        channels = str(self.channels) if isinstance(self.channels, OwnChannel) else _listed(self.channels)
        return f"{verb} {_plain(self.layer)}[{channels}]{self.span}{_masked(' in ', self.mask, self.mask_digest)}"


@dataclass(frozen=True)
class Switch:
    """Another label from the step into state `at` on."""

    at: int
    to: int | Flip

    def __post_init__(self) -> None:
        _set(self, at=_counted("step of a switch", self.at))
        if not isinstance(self.to, Flip):
            _set(self, to=_counted("label of a switch", self.to))

    @property
    def span(self) -> Span:
        """The states it concerns."""
        return Span(self.at, 0)

    def label(self, label: int) -> int:
        """The label after it."""
        return label ^ self.to.bits if isinstance(self.to, Flip) else self.to

    def __str__(self) -> str:
        return f"switch@{self.at}->{self.to}"


@dataclass(frozen=True)
class Patch:
    """Outputs of layers taken from another clean case's run at the same step.

    >>> str(Patch(("mid_attn.fn",), label=6))
    'patch mid_attn.fn<-label 6'
    """

    layers: tuple[str, ...]
    label: int | None = None
    """The donor's label; None: the case's own."""
    seed: int | None = None
    """The donor's seed; None: the case's own."""
    span: Span = WHOLE
    """When it is in force; None stands for the whole run."""

    def __post_init__(self) -> None:
        layers = _layers(self.layers)
        if self.label is None and self.seed is None:
            raise DefinitionError(
                f"A patch of {', '.join(layers)} names no donor.",
                consequence="A case patched with its own activations is the clean run.",
                remedy="give the donor's label, seed, or both",
            )
        for what, value in (("label", self.label), ("seed", self.seed)):
            if value is not None:
                _set(self, **{what: _counted(f"{what} of a donor", value)})
        _set(self, span=_span(self.span), layers=layers)

    def donor(self, case: Case) -> Case:
        """The case whose activations are taken."""
        seed = case.seed if self.seed is None else self.seed
        return Case(seed, case.label if self.label is None else self.label)

    def __str__(self) -> str:
        parts = [f"seed {self.seed}"] if self.seed is not None else []
        parts += [f"label {self.label}"] if self.label is not None else []
        many = f"{len(self.layers)} layers#{_digest(self.layers)}"
        layers = _plain(self.layers[0]) if len(self.layers) == 1 else many
        return f"patch {layers}<-{' '.join(parts)}{self.span}"


@dataclass(frozen=True)
class Steer:
    """A vector over channels, added to a layer's output at every position."""

    layer: str
    vector: tuple[float, ...] | Difference
    """One float32 number per channel, or what two groups of clean runs differ by."""
    scale: float = 1.0
    span: Span = WHOLE
    """When it is in force; None stands for the whole run."""

    def __post_init__(self) -> None:
        _named(self.layer)
        _set(self, span=_span(self.span), scale=_finite(self.scale, "scale", self.layer))
        if not isinstance(self.vector, Difference):
            _set(self, vector=_singles(self.vector, self.layer))
        if self.scale == 0.0 or not (isinstance(self.vector, Difference) or any(self.vector)):
            what = "0 times a vector" if self.scale == 0.0 else "a vector of zeros"
            raise DefinitionError(
                f"{self.layer!r} is steered by {what}, which changes nothing.",
                consequence="It would be the clean run under another name.",
                remedy="give a scale and a vector that are not 0",
            )

    def __str__(self) -> str:
        vector = str(self.vector) if isinstance(self.vector, Difference) else f"#{_digest(self.vector)}"
        return f"steer {_plain(self.layer)}+{_number(self.scale)}*{vector}{self.span}"


Part: TypeAlias = Ablation | Switch | Patch | Steer
"""One thing that is done."""


def layers_of(part: Part) -> tuple[str, ...]:
    """The layers whose output it changes; none for a switch."""
    if isinstance(part, Switch):
        return ()
    return part.layers if isinstance(part, Patch) else (part.layer,)


def _set(part: Part, **values: object) -> None:
    """Put canonical values into a part that is being made."""
    for name, value in values.items():
        object.__setattr__(part, name, value)


def _span(span: object) -> Span:
    if span is not None and not isinstance(span, Span):
        raise DefinitionError(
            f"{span!r} is not a span.",
            consequence="It is not known in which steps the part is in force.",
            remedy="write Span(700, 400): t counts down from noise to image, and both ends belong to it",
        )
    return WHOLE if span is None else span


def _mask_name(mask: object, layer: str) -> None:
    if mask is not None and (not isinstance(mask, str) or not mask):
        raise DefinitionError(
            f"The mask of an ablation of {layer!r} is a {type(mask).__name__}, and not a name.",
            consequence="A part is written into names, and pixels have no place there.",
            remedy='give the pixels in a table of the pipeline: {"kind": "ablate", "layer": ..., "mask": array}',
        )


def _named(layer: object) -> None:
    if not isinstance(layer, str) or not layer:
        raise DefinitionError(
            f"{layer!r} is not the name of a layer.",
            consequence="There is nothing to change.",
            remedy="name one module, for instance 'mid_attn.fn'",
        )


def _layers(layers: object) -> tuple[str, ...]:
    """Names of layers, sorted and each once; a bare string would be taken for its letters."""
    if isinstance(layers, str) or not isinstance(layers, Iterable) or not (given := tuple(layers)):
        raise DefinitionError(
            f"A patch of {layers!r} names no layers.",
            consequence="Nothing would be taken from the donor.",
            remedy='give a tuple of layers: Patch(("mid_attn.fn",), label=6)',
        )
    for layer in given:
        _named(layer)
    return tuple(sorted(set(given)))


def _one_of(what: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise DefinitionError(
            f"There is no {what} {value!r}.",
            consequence="It is not known what should be done.",
            remedy=nearest(value, known),
        )


def _counted(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise DefinitionError(
            f"{value!r} is not a whole number of at least 0, as the {what} must be.",
            consequence="It names nothing.",
            remedy="count from 0",
        )
    return int(value)


def _numbers(what: str, values: object) -> tuple[int, ...]:
    """Whole numbers, sorted and each once."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise DefinitionError(
            f"The {what} are {values!r}, and not a tuple of whole numbers.",
            consequence="It is not known which are meant.",
            remedy=f"write ({values!r},) for one of them",
        )
    given = list(values)
    if not given:
        raise DefinitionError(
            f"The {what} are an empty list.",
            consequence="There is nothing to act upon.",
            remedy="give at least one, counted from 0",
        )
    return tuple(sorted({_counted(what, value) for value in given}))


def _finite(value: float, what: str, layer: str) -> float:
    if not math.isfinite(value):
        raise DefinitionError(
            f"The {what} {value!r} of {layer!r} is not a finite number.",
            consequence="The sample would leave the numbers at its first step.",
            remedy="give a finite number",
        )
    return float(value) + 0.0  # -0.0 becomes 0.0


def _singles(vector: Iterable[float], layer: str) -> tuple[float, ...]:
    """The numbers as the network sees them: a file's float32 0.1 and a written 0.1 are one direction."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(list(vector), dtype=np.float64).astype(np.float32)
    if not rounded.size:
        raise DefinitionError(
            f"A direction without numbers for {layer!r}.",
            consequence="It points nowhere.",
            remedy="give one number for each channel",
        )
    return tuple(_finite(value, "vector", layer) for value in rounded.tolist())


def _masked(before: str, name: str | None, digest: str) -> str:
    """How a mask is written: its name, and the beginning of its content's digest."""
    if name is None and not digest:
        return ""
    return f"{before}{_plain(name or '')}{f'#{digest[:12]}' if digest else ''}"


def _plain(name: str) -> str:
    """A name as it may stand in another; one with signs in it gets a digest, so that no two are written alike."""
    if re.fullmatch(r"[\w.\-]+", name, flags=re.ASCII):
        return name
    return f"{re.sub(r'[^0-9A-Za-z_.-]', '_', name)}~{_digest((name,))}"


def _number(value: float) -> str:
    """The one spelling of a number: 0.5 for .50 and 5e-1."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _listed(values: tuple[int, ...]) -> str:
    """Sorted numbers: a few written out, many in a row as a half-open range, others as how many and a digest."""
    if len(values) <= _SHOWN:
        return ",".join(map(str, values))
    if values[-1] - values[0] + 1 == len(values):
        return f"{values[0]}:{values[-1] + 1}"
    return f"{len(values)}#{_digest(values)}"


def _digest(values: tuple[object, ...]) -> str:
    return hashlib.blake2b(repr(values).encode(), digest_size=6).hexdigest()
