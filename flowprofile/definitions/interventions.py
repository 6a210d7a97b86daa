"""The shape of `[interventions.TITLE]` tables: what may be written, before anybody knows which model it is for.

    [interventions.own]                       # the title; the identity is computed from the content
    kind    = "ablate"
    layer   = "*.2.fn"                        # one intervention for each of them
    channel = { from = "max_channel", time = 200, mask = "face" }

What a table means for a model is worked out in `intervening`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag, TypeAdapter, ValidationError

from flowprofile.cases import CLEAN
from flowprofile.definitions.base import Label, Seeds, Table, Whole, one_of
from flowprofile.definitions.text import Text, refusal
from flowprofile.errors import DefinitionError

Names = str | list[str]
"""One name or glob, or several."""


def _ends(value: object) -> object:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise ValueError(
            f"a time is [first, last] with t counting down, for instance [700, 400], not {value!r}"
        )
    return tuple(value)


class FromMax(Table):
    """Each sample's own strongest channel."""

    from_: Literal["max_channel"] = Field(alias="from")
    time: Whole = Field(ge=0, description="the state t whose step is looked at, in the clean run")
    mask: Any = Field(None, description="where to look; everywhere by default")
    statistic: Literal["sum", "abs", "max", "mean_top"] = Field(
        "sum", description="what makes a channel strong"
    )


class FromGradient(Table):
    """Each sample's own channel at which a region pulls the strongest."""

    from_: Literal["gradient_channel"] = Field(alias="from")
    time: Whole = Field(ge=0, description="the state t whose step is differentiated, in the clean run")
    mask: Any = Field(description="whose pixels of x_t are differentiated")
    statistic: Literal["sum", "abs", "max", "mean_top"] = Field(
        "sum", description="what makes a channel strong"
    )


class FromRandom(Table):
    """Channels drawn at random: the control."""

    from_: Literal["random"] = Field(alias="from")
    n: Whole = Field(ge=1, le=10_000, description="how many, each an intervention of its own")
    seed: Whole = Field(0, ge=0, lt=2**63, description="of the draw; another one draws other channels")


Channel = Annotated[
    Annotated[Whole, Tag("number")]
    | Annotated[list[Whole], Tag("list")]
    | Annotated[FromMax, Tag("max_channel")]
    | Annotated[FromGradient, Tag("gradient_channel")]
    | Annotated[FromRandom, Tag("random")],
    one_of(
        "channel",
        'a number, a list of numbers, or a table with from = "max_channel", "gradient_channel" or "random"',
    ),
]


class Scaled(Table):
    """Multiply instead of setting."""

    scale: float = Field(allow_inf_nan=False, description="what they are multiplied with")


Value = Annotated[
    Annotated[Literal["zero", "mean"], Tag("text")] | Annotated[Scaled, Tag("table")],
    one_of("value", '"zero", "mean" or { scale = 0.5 }'),
]


class Timed(Table):
    """When it is in force."""

    time: Annotated[tuple[Whole, Whole], BeforeValidator(_ends)] | None = Field(
        None, description="[700, 400]: from the step into 700 to that into 400; by default always"
    )


class Ablate(Timed):
    """Set channels of a layer to zero or to their mean, or scale them."""

    kind: Literal["ablate"]
    layer: Names = Field(description="names and globs; one intervention for each layer")
    together: bool = Field(False, strict=True, description="one intervention of all the layers instead")
    channel: Channel = Field(
        description="which channels: numbers, each sample's own strongest, or some at random"
    )
    value: Value = Field(
        "zero", description="what they become: zero, their mean, or a multiple of what they are"
    )
    mask: Any = Field(None, description="only within this region")


class FlipTo(Table):
    """The label with some attributes turned over."""

    flip: Names = Field(description="the attributes that are turned over")


class SwitchTo(Table):
    """Ask for another label from some step on."""

    kind: Literal["switch"]
    at: Annotated[
        Annotated[Whole, Tag("number")] | Annotated[list[Whole], Tag("list"), Field(min_length=1)],
        one_of("step", "a state t, or a list of them"),
    ] = Field(description="state t; a list makes one intervention of each")
    to: Annotated[
        Annotated[Whole, Tag("number")]
        | Annotated[str, Tag("text")]
        | Annotated[list[str], Tag("list")]
        | Annotated[FlipTo, Tag("table")],
        one_of("target", 'a label (7, "0111", ["smile"]) or { flip = "lipstick" }'),
    ] = Field(description="the label that is asked for from there on, or the attributes that are turned over")
    labels: list[Label] | None = Field(None, min_length=1, description="only for these labels")


class Donor(Table):
    """Whose run is taken from: by default the case's own label and seed."""

    label: Label | None = Field(None, description="another label; by default the case's own")
    seed: Whole | None = Field(None, ge=0, lt=2**63, description="another seed; by default the case's own")


class PatchFrom(Timed):
    """Take layers' outputs from another case's run."""

    kind: Literal["patch"]
    layers: Names = Field(description="names and globs; all of them in one intervention")
    from_: Donor = Field(alias="from", description="whose run")


class FromDifference(Table):
    """Mean activation of some labels minus that of others."""

    from_: Literal["difference"] = Field(alias="from")
    plus: list[Label] = Field(min_length=1, description="labels whose mean is taken")
    minus: list[Label] = Field(min_length=1, description="labels whose mean is taken away from it")
    time: Whole = Field(ge=0, description="the state t whose step is looked at, in clean runs")
    seeds: Seeds = Field(description="the seeds that the means are over")


class SteerBy(Timed):
    """Add a vector over channels."""

    kind: Literal["steer"]
    layer: Names = Field(description="names and globs; one intervention for each layer")
    together: bool = Field(False, strict=True, description="one intervention of all the layers instead")
    vector: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[list[float], Tag("list")]
        | Annotated[FromDifference, Tag("difference")],
        one_of("vector", 'the path of a .npy file, a list of numbers, or a table with from = "difference"'),
    ] = Field(description="one number for each channel, or the difference of two groups' means")
    scale: float = Field(1.0, allow_inf_nan=False, description="what the vector is multiplied with")


PartTable = Annotated[Ablate | SwitchTo | PatchFrom | SteerBy, Field(discriminator="kind")]
"""What one part of an intervention may be."""


class Together(Table):
    """Several at once."""

    kind: Literal["all"]
    parts: list[PartTable] = Field(min_length=1)


InterventionTable = Annotated[Ablate | SwitchTo | PatchFrom | SteerBy | Together, Field(discriminator="kind")]
"""What a table may be."""

_SHAPE: TypeAdapter[Any] = TypeAdapter(InterventionTable)


def shaped(title: str, table: object, text: Text) -> Table:
    """The table of an intervention with its values; DefinitionError with file, line, key and nearest name."""
    try:
        found: Table = _SHAPE.validate_python(table)
    except ValidationError as error:
        raise refusal(error, text, InterventionTable, under=("interventions", title)) from None
    return found


def findable(title: str, place: str) -> None:
    """Refuse a title that a store could not give back: fixed-width text loses a NUL, and `none` is the clean run."""
    if title == CLEAN:
        raise taken(title, place)
    if not title or "\0" in title:
        raise DefinitionError(
            f"An intervention cannot be called {title!r} ({place}).",
            consequence="It would come back from the store under another name.",
            remedy="give it a title of at least one character, none of them NUL",
        )


def taken(title: str, place: str) -> DefinitionError:
    """The refusal of a title that is the name of something else."""
    return DefinitionError(
        f"{title!r} is the name of another intervention ({place}).",
        consequence="Whoever selects by it would get that one, or the mean of both.",
        remedy="give it another title",
    )
