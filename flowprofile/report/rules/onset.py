"""When two labels begin to differ, beside when two known pictures under the same noise do.

Two fixed pictures part as well, the earlier the more they differ. So it is no finding that two labels part; a finding
is that they do so at another time than their own final pictures, joined to the same noise by no network at all.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import TIME
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.report.rules.base import Nodes, Rule, Threshold, curve, with_null
from flowprofile.report.verdicts import ALPHA, Estimate, Outcome, Row, Verdict, verdict
from flowprofile.stats.curves import NEVER
from flowprofile.stats.onset import FLOOR, Onset, OnsetDifference, onset, onset_difference, seed_onsets


class OnsetParams(Table):
    """Parameters of the rule."""

    stage: str
    of: Literal["similarity", "distance"] = "similarity"
    delta: float = Field(0.05, gt=0, allow_inf_nan=False)
    direction: Literal["earlier", "later"] = "earlier"
    excess: Threshold = 0.0


def judge(nodes: Nodes, params: OnsetParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on nodes[stage], a measure between labels with `value` and `null`."""
    value, null = with_null(nodes[params.stage], params.stage)
    ours, theirs = (_dissimilarity(values, params) for values in (value, null))
    times, stride = _even(ours, params.stage)
    floor = {"similarity": FLOOR, "distance": 0.0}[params.of]
    raw, known = (onset(values.values, [params.delta], alpha=alpha, floor=floor) for values in (ours, theirs))
    per_seed = [seed_onsets(values.values, [params.delta], floor=floor) for values in (theirs, ours)]
    apart = _steps(onset_difference(*per_seed, alpha=alpha), stride)
    turned = apart if params.direction == "later" else apart.turned()
    outcome: Outcome
    if not raw.claimed[0]:
        outcome = "not found"
    else:
        outcome = "confirmed" if turned.lower > params.excess else "explained by the null"
    rows = [
        Row(f"t from which on the labels differ by more than {params.delta:g}", _at(raw, times), "t"),
        Row("the same of the null", _at(known, times), "t"),
        Row("later than the null, per seed", apart, "steps"),
    ]
    told = _sentence(raw, known, times, apart, params)
    return verdict(outcome, replace(apart, n=raw.n), told, unit="steps", rows=rows)


def _dissimilarity(values: xr.DataArray, params: OnsetParams) -> xr.DataArray:
    lines = curve(values)
    return 1.0 - lines if params.of == "similarity" else lines


def _even(values: xr.DataArray, stage: str) -> tuple[np.ndarray, int]:
    times = values[TIME].values
    strides = np.unique(-np.diff(times))
    if len(strides) != 1:
        raise DefinitionError(
            f"The states of {stage!r} are not evenly spaced.",
            consequence="How much later something happens could not be counted in steps.",
            remedy='keep every n-th state, such as keep = "::10"',
            evidence=f"distances {strides.tolist()}",
        )
    return times, int(strides[0])


def _steps(difference: OnsetDifference, stride: int) -> Estimate:
    mean, lower, upper = (
        float(values[0]) * stride for values in (difference.mean, difference.lower, difference.upper)
    )
    return Estimate(mean, lower, upper, int(difference.n[0]))


def _at(found: Onset, times: np.ndarray) -> Estimate:
    """The onset as states t: later steps are smaller t, so the ends change places; NaN is "never"."""
    at = [float("nan") if step == NEVER else float(times[step]) for step in _ends(found)]
    return Estimate(at[0], at[1], at[2], found.n)


def _ends(found: Onset) -> tuple[int, int, int]:
    return int(found.estimate[0]), int(found.upper[0]), int(found.lower[0])


def _sentence(raw: Onset, known: Onset, times: np.ndarray, apart: Estimate, params: OnsetParams) -> str:
    first, second = (
        "never" if one.estimate[0] == NEVER else f"from t = {times[one.estimate[0]]} on"
        for one in (raw, known)
    )
    told = f"The labels differ by more than {params.delta:g} {first}; two known pictures do so {second}."
    if not np.isfinite(apart.mean):
        return f"{told} Too few seeds have both onsets to compare them."
    return (
        f"{told} Seed by seed that is {abs(apart.mean):.0f} steps {'later' if apart.mean > 0 else 'earlier'}."
    )


RULE = Rule(
    "onset",
    OnsetParams,
    lambda params: (params.stage,),
    judge,
    "The state after which the mean dissimilarity of the labels stays above `delta`, with an interval that holds"
    " whatever the number of steps. There is an effect if there is such a state; it is confirmed if, seed by seed, the"
    " labels part earlier (or later, as claimed) than the null by more than `excess` steps.",
)
