"""From which switch step on the picture no longer follows a new label.

The control is a chain that knows its picture, as all nulls here: told of a new picture at any step, it ends in that
one, so that its whole effect is left however late the switch is. That a late switch does less is therefore beyond it.
"""

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import INTERVENTION, LABEL, SEED, TIME
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.report.rules.base import Nodes, Rule, Threshold, titled
from flowprofile.report.verdicts import ALPHA, Estimate, Outcome, Row, Verdict, estimate, verdict
from flowprofile.stats.bounds import mean_bounds
from flowprofile.stats.curves import NEVER
from flowprofile.stats.predetermination import Predetermination, predetermination


class SettledParams(Table):
    """Parameters of the rule."""

    stage: str
    done: str
    """Title of the switches."""
    level: float = Field(0.1, gt=0, lt=1)
    """Share of the earliest switch's effect that counts as nothing."""
    by: int = Field(ge=0)
    """State t by which the label is claimed to be settled."""
    raw: Threshold = 0.01


def judge(nodes: Nodes, params: SettledParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on nodes[stage], SSIM to the run that was not switched, at the finished picture."""
    effects = _effects(nodes[params.stage], params)
    steps = effects["switch_step"].values
    raw = estimate(effects.values[:, 0], alpha=alpha)
    rows = [Row(f"1 − SSIM of the pictures, switched at t = {steps[0]}", raw, "1")]
    if not raw.lower > params.raw:
        told = f"Even the earliest switch changes the finished picture by {raw.mean:.3g} only."
        return verdict("not found", raw, told, unit="1", rows=rows)
    earliest = effects.values[:, :1]
    # A seed whose picture not even the earliest switch changes has no share of it.
    left = (effects.values / np.where(earliest > 0, earliest, 1.0))[earliest[:, 0] > params.raw]
    found = predetermination(left, level=params.level, alpha=alpha, bounds=mean_bounds)
    at = _at(found, steps)
    outcome: Outcome = "confirmed" if at.lower >= params.by else "explained by the null"
    rows += [
        Row(f"share of that left, switched at t = {step}", estimate(left[:, place]), "1")
        for place, step in enumerate(steps)
    ]
    rows.append(Row(f"t from which on at most {params.level:g} of it is left", at, "t"))
    return verdict(outcome, at, _sentence(found, at, params), unit="t", rows=rows)


def _effects(node: xr.Dataset, params: SettledParams) -> xr.DataArray:
    """1 - SSIM of the finished pictures [seed, switch], the earliest switch first."""
    values = titled(node["value"], params.done)
    if 0 not in values[TIME].values:
        raise DefinitionError(
            f"The stage {params.stage!r} does not keep t = 0.",
            consequence="Whether the finished picture changed cannot be told.",
            remedy="keep the state 0 there",
        )
    ends = 1.0 - values.sel({TIME: 0}).mean(LABEL)
    return ends.isel({INTERVENTION: np.argsort(-ends["switch_step"].values)}).transpose(SEED, INTERVENTION)


def _at(found: Predetermination, steps: np.ndarray) -> Estimate:
    """The interval as states t: a later step is a smaller t, so its ends change places; NaN is "never"."""
    ends = (found.estimate, found.upper, found.lower)
    mean, lower, upper = (float("nan") if step == NEVER else float(steps[step]) for step in ends)
    return Estimate(mean, lower, upper, found.bounds.n)


def _sentence(found: Predetermination, at: Estimate, params: SettledParams) -> str:
    if found.estimate == NEVER:
        return f"However late the switch, more than {params.level:g} of the earliest one's effect is left."
    flat = " The curve is flat about that level, so the step hangs on it." if found.flat else ""
    return (
        f"From t = {at.mean:.0f} on a switch has at most {params.level:g} of the effect of the earliest one"
        f" (claimed: from t = {params.by} on).{flat}"
    )


RULE = Rule(
    "settled",
    SettledParams,
    lambda params: (params.stage,),
    judge,
    "How much a switch of the label at each step changes the finished picture, as a share of what the earliest one"
    " changes. There is an effect if the earliest one changes it by more than `raw`; it is confirmed that the label is"
    " settled if, with the whole interval, at most `level` of that is left from the state `by` on. A chain that knows"
    " its picture would have all of it left.",
)
