"""What a rule is: parameters that a definition writes down, the stages it reads, and a pure function of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import xarray as xr
from pydantic import BeforeValidator, Field

from flowprofile.axes import TIME
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.estimates import curve as curve
from flowprofile.estimates import titled as titled
from flowprofile.report.verdicts import Verdict

Nodes = Mapping[str, xr.Dataset]
"""What stages stored, by their names in the definition."""


@dataclass(frozen=True)
class Rule:
    """One way to reach a verdict."""

    name: str
    params: type[Table]
    stages: Callable[[Any], tuple[str, ...]]
    """The stages it reads, from its parameters."""
    judge: Callable[[Nodes, Any, float], Verdict]
    """From those stages, its parameters and the intervals' probability of error to the verdict; reads nothing else."""
    told: str
    """The rule in a sentence or two, for the page."""


def _span(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] < value[1]:
        raise ValueError(
            f"a span of states is [first, last] with t counting down, such as [300, 200], not {value!r}"
        )
    return tuple(value)


Span = Annotated[tuple[int, int], BeforeValidator(_span)]
"""States from the first to the last, both included, t counting down."""
Threshold = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""How far beyond zero the whole interval must lie."""


def over(values: xr.DataArray, span: tuple[int, int], *, where: str) -> xr.DataArray:
    """The states of a span; refused where none is stored."""
    first, last = span
    found = values.sel({TIME: [t for t in values[TIME].values.tolist() if last <= t <= first]})
    if not found.sizes[TIME]:
        held = values[TIME].values.tolist()
        raise DefinitionError(
            f"No state of {where!r} lies between t = {first} and {last}.",
            consequence="There is nothing the verdict could be read from.",
            remedy="keep states there, or name another span in [report.verdict]",
            evidence=f"{len(held)} states from {max(held)} to {min(held)}",
        )
    return found


def with_null(node: xr.Dataset, stage: str) -> tuple[xr.DataArray, xr.DataArray]:
    """A measure and its null; a stage without a null is refused."""
    if "null" not in node or "value" not in node:
        raise DefinitionError(
            f"The stage {stage!r} has no null beside it.",
            consequence="An effect could not be told from what happens without any network.",
            remedy="judge a measure of images (ssim, mse, l1, psnr), or use a rule with a control of its own",
        )
    return node["value"], node["null"]
