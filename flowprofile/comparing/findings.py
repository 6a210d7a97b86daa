"""From tallies to the dataset a person gets: curves with their interval, and onsets with theirs.

States are said as t, which descends from noise to image, so an onset that comes *later* has a *smaller* t. The ends
of an onset's interval are in the order of their numbers: onset_lower <= onset <= onset_upper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowprofile.axes import TIME
from flowprofile.comparing.sides import Question
from flowprofile.comparing.stored import SIMILARITIES, Source, Values
from flowprofile.comparing.tallying import Tallied
from flowprofile.measures.base import Tally
from flowprofile.stats.bounds import MeanBounds, tally_bounds
from flowprofile.stats.curves import NEVER
from flowprofile.stats.onset import FLOOR, deltas_of, onset_of_bounds

VARIABLES: Final = (
    *("value", "null", "excess", "lower", "upper", "n"),
    *("onset", "onset_lower", "onset_upper", "null_onset", "claimed"),
)
"""What the dataset holds, curves first, in the order in which they are shown."""
DELTA: Final = "delta"
PAIR: Final = "pair"


@dataclass(frozen=True)
class Claim:
    """What is to be said of the curves."""

    excess: bool
    """Whether the interval and the onset are of the excess over the null, or of the value."""
    deltas: tuple[float, ...]
    """Thresholds of the onset."""
    alpha: float
    """Probability of error of an interval."""

    @property
    def of(self) -> str:
        """The variable that is claimed."""
        return "excess" if self.excess else "value"


def floor_of(source: Source) -> float:
    """The least threshold: for SSIM of two images what can be seen, for other scales anything from 0."""
    return FLOOR if source.quantity in {f"1 - {kind}" for kind in SIMILARITIES} else 0.0


def checked_deltas(deltas: Sequence[float], source: Source) -> tuple[float, ...]:
    """The thresholds, each once and ascending, refused below the least."""
    return tuple(sorted(set(deltas_of(list(deltas), floor_of(source)).tolist())))


def findings(
    question: Question, source: Source, tallies: Tallied, claim: Claim, attrs: Mapping[str, Any]
) -> xr.Dataset:
    """The dataset of a comparison."""
    claimed = tallies.excess if claim.excess else tallies.value
    assert claimed is not None
    bounds = tally_bounds(claimed, alpha=claim.alpha / 2)
    curves = {
        "value": (tallies.value.mean, f"mean over seeds of {source.quantity}"),
        "null": (_mean(tallies.null, like=bounds), "the same of the null: same noise, image known"),
        "excess": (_mean(tallies.excess, like=bounds), "value - null"),
        "lower": (bounds.lower, f"lower end of the interval of the {claim.of}, at each state by itself"),
        "upper": (bounds.upper, f"upper end of the interval of the {claim.of}, at each state by itself"),
    }
    data: dict[str, Any] = {
        name: ((PAIR, TIME), values, {"long_name": told, "units": "1"})
        for name, (values, told) in curves.items()
    }
    count = np.full(bounds.mean.shape, bounds.n, np.int64)
    data["n"] = ((PAIR, TIME), count, {"long_name": "seeds", "units": "1"})
    found = xr.Dataset(
        data | _onsets(bounds, tallies.null, source, claim),
        coords={
            TIME: (TIME, np.array(source.times, np.int64), {"long_name": "state t", "units": "step"}),
            DELTA: (DELTA, np.array(claim.deltas), {"long_name": "threshold of the onset", "units": "1"}),
            **source.coords(),
        },
        attrs={**attrs, "claimed": claim.of, "alpha": claim.alpha, "quantity": source.quantity},
    )
    return _along_pairs(found, question)


def _mean(tally: Tally | None, *, like: MeanBounds) -> Values:
    return np.full_like(like.mean, np.nan) if tally is None else tally.mean


def _along_pairs(found: xr.Dataset, question: Question) -> xr.Dataset:
    if not question.every:
        return found.isel({PAIR: 0})
    one, other = np.array(question.labels, np.int64).T
    return found.assign_coords(label=(PAIR, one), other_label=(PAIR, other))


_ONSETS: Final = {
    "onset": "state from which on the mean stays above delta; a finding only where claimed",
    "onset_lower": "the onset is not at a smaller t (later); NaN where it may be after the last state",
    "onset_upper": "the onset is not at a larger t (earlier); NaN where the mean is nowhere above delta",
    "null_onset": "state from which on the null stays above delta, without any network",
}


def _onsets(bounds: MeanBounds, null: Tally | None, source: Source, claim: Claim) -> dict[str, Any]:
    times, floor = np.array(source.times, np.float64), floor_of(source)
    rows: dict[str, list[Values]] = {name: [] for name in _ONSETS}
    claimed: list[NDArray[np.bool_]] = []
    for pair in range(len(bounds.mean)):
        one = onset_of_bounds(_of_pair(bounds, pair), claim.deltas, floor=floor)
        # Steps count in the order of generation, so the earliest step is the largest t.
        rows["onset"].append(_states(one.estimate, times))
        rows["onset_lower"].append(_states(one.upper, times))
        rows["onset_upper"].append(_states(one.lower, times))
        rows["null_onset"].append(_null_onset(null, pair, times, claim.deltas, floor))
        claimed.append(one.claimed)
    found: dict[str, Any] = {
        name: ((PAIR, DELTA), np.stack(values), {"long_name": _ONSETS[name], "units": "step"})
        for name, values in rows.items()
    }
    told = {"long_name": f"whether the {claim.of} is surely above delta at the last state"}
    return found | {"claimed": ((PAIR, DELTA), np.stack(claimed), told)}


def _null_onset(
    null: Tally | None, pair: int, times: Values, deltas: Sequence[float], floor: float
) -> Values:
    if null is None:
        return np.full(len(deltas), np.nan)
    mean = null.mean[pair]
    flat = MeanBounds(null.n, mean, mean, mean, 0.0)
    return _states(onset_of_bounds(flat, list(deltas), floor=floor).estimate, times)


def _of_pair(bounds: MeanBounds, pair: int) -> MeanBounds:
    return MeanBounds(bounds.n, bounds.mean[pair], bounds.lower[pair], bounds.upper[pair], bounds.alpha)


def _states(steps: NDArray[np.int64], times: Values) -> Values:
    return np.where(steps == NEVER, np.nan, times[steps])
