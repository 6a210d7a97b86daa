"""Whether the gradients of a region differ between two labels, and more so than those of a region that must not."""

import xarray as xr

from flowprofile.axes import INTERVENTION, LABEL, SEED, TIME
from flowprofile.cases import CLEAN
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.report.rules.base import Nodes, Rule, Threshold
from flowprofile.report.verdicts import ALPHA, Row, Verdict, decide, estimate, verdict


class PulledParams(Table):
    """Parameters of the rule."""

    stage: str
    """A gradient volume of the region that the labels differ in."""
    control: str
    """A gradient volume of a region that they do not differ in."""
    time: int
    raw: Threshold = 0.0
    excess: Threshold = 0.0


def judge(nodes: Nodes, params: PulledParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on two gradient volumes of exactly two labels."""
    ours, theirs = (relative(nodes[stage]["gradient"]) for stage in (params.stage, params.control))
    raw = estimate(ours.sel({TIME: params.time}).values, alpha=alpha)
    beyond = estimate((ours - theirs).sel({TIME: params.time}).values, alpha=alpha)
    outcome = decide(raw, beyond, raw_above=params.raw, excess_above=params.excess)
    rows = [
        Row("region beyond control region", beyond, "1"),
        *(
            Row(f"{told}, t = {t}", estimate(values.sel({TIME: t}).values), "1")
            for t in ours[TIME].values
            for told, values in (("region", ours), ("control region", theirs))
        ),
    ]
    told = (
        f"At t = {params.time} the two labels' gradients of the region differ by {raw.mean:.3g} (0 is the same, 1"
        f" unrelated), those of the control region by {raw.mean - beyond.mean:.3g}."
    )
    return verdict(outcome, beyond, told, unit="1", rows=rows)


def relative(volumes: xr.DataArray) -> xr.DataArray:
    """|a - b| / sqrt(|a|^2 + |b|^2) of the two labels' rows, [seed, time]."""
    clean = volumes.sel({INTERVENTION: CLEAN}, drop=True).astype("float64")
    if clean.sizes[LABEL] != 2:
        raise DefinitionError(
            f"The gradients are of {clean.sizes[LABEL]} labels.",
            consequence="Which of them should differ is open.",
            remedy="give exactly two labels",
        )
    one, other = (clean.isel({LABEL: place}, drop=True) for place in (0, 1))
    rows = [dim for dim in one.dims if dim not in (SEED, TIME)]
    squares = (one**2).sum(rows) + (other**2).sum(rows)
    share = ((one - other) ** 2).sum(rows) / squares.where(squares > 0, 1.0)
    return xr.DataArray(share**0.5).transpose(SEED, TIME)


RULE = Rule(
    "pulled",
    PulledParams,
    lambda params: (params.stage, params.control),
    judge,
    "The relative distance of the two labels' gradient rows of a region at the state `time`, per seed. It is there if"
    " its whole interval lies above `raw`; it is confirmed if it exceeds that of a control region, in which the labels"
    " mean the same, by more than `excess`.",
)
