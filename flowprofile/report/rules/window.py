"""The level of a curve in one span of states, or its difference to another span, beside the same of its null.

Both spans are named beforehand, so nothing is searched for and no correction is due. A dip is a `below` of the last
states against the plateau before them; a plain level has no second span.
"""

from typing import Literal

import xarray as xr

from flowprofile.axes import TIME
from flowprofile.cases import CLEAN
from flowprofile.definitions import Table
from flowprofile.report.rules.base import Nodes, Rule, Span, Threshold, curve, over, with_null
from flowprofile.report.verdicts import ALPHA, Estimate, Row, Verdict, decide, estimate, verdict


class WindowParams(Table):
    """Parameters of the rule."""

    stage: str
    done: str = CLEAN
    """Title of the interventions; by default the clean runs."""
    of: Span
    against: Span | None = None
    reduce: Literal["mean", "min", "max"] = "mean"
    direction: Literal["above", "below"]
    raw: Threshold = 0.0
    excess: Threshold = 0.0


def judge(nodes: Nodes, params: WindowParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on nodes[stage], which has `value` and `null`."""
    value, null = with_null(nodes[params.stage], params.stage)
    ours, theirs = _effect(value, params), _effect(null, params)
    raw, beyond = estimate(ours.values, alpha=alpha), estimate((ours - theirs).values, alpha=alpha)
    sign = 1 if params.direction == "above" else -1
    turned = (raw, beyond) if sign == 1 else (raw.turned(), beyond.turned())
    outcome = decide(*turned, raw_above=params.raw, excess_above=params.excess)
    unit = str(value.attrs.get("units", "1"))
    name = str(value.attrs.get("long_name", params.stage))
    rows = [
        Row(f"{name}, {_told(params)}", raw, unit),
        Row("the same of the null", estimate(theirs.values), unit),
        Row("excess over the null", beyond, unit),
    ]
    return verdict(outcome, beyond, _sentence(raw, beyond, params), unit=unit, rows=rows)


def _effect(values: xr.DataArray, params: WindowParams) -> xr.DataArray:
    lines = curve(values, title=params.done)
    found = getattr(over(lines, params.of, where=params.stage), params.reduce)(TIME)
    if params.against is not None:
        found = found - over(lines, params.against, where=params.stage).mean(TIME)
    return xr.DataArray(found)


def _told(params: WindowParams) -> str:
    least = "" if params.reduce == "mean" else f"{params.reduce} of "
    first = f"{least}t = {params.of[0]}..{params.of[1]}"
    return first if params.against is None else f"{first} minus t = {params.against[0]}..{params.against[1]}"


def _sentence(raw: Estimate, beyond: Estimate, params: WindowParams) -> str:
    claimed = f"{params.direction} {params.raw if params.direction == 'above' else -params.raw:+g}"
    claimed = claimed if params.raw else f"{params.direction} 0"
    return (
        f"The curve has {raw.mean:+.4g} ({_told(params)}; claimed is {claimed}), and"
        f" {beyond.mean:+.4g} of it beyond its null."
    )


RULE = Rule(
    "window",
    WindowParams,
    lambda params: (params.stage,),
    judge,
    "The curve in one span of states, minus another span where one is named, per seed. It is there if its whole"
    " interval lies beyond `raw` in the claimed direction, and confirmed if the same of the excess over the null lies"
    " beyond `excess`.",
)
