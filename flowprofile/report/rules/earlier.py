"""Whether a layer looks like its own end before the sample looks like its own, and before a layer that only repeats it.

Distances between neighbouring states cannot tell: most of what changes from one to the next is fresh noise. So each is
summed up by the state from which on it correlates with its own last state.
"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from flowprofile.axes import CHANNEL, INTERVENTION, LABEL, SEED, TIME, X, Y
from flowprofile.cases import CLEAN
from flowprofile.definitions import Table
from flowprofile.report.rules.base import Nodes, Rule, Threshold
from flowprofile.report.verdicts import ALPHA, Row, Verdict, decide, estimate, verdict

Values = NDArray[np.float64]


class EarlierParams(Table):
    """Parameters of the rule."""

    activations: str
    layer: str
    control: str = "init_conv"
    """A layer that only repeats its input."""
    states: str = "trajectory"
    level: float = Field(0.5, gt=0, lt=1)
    """The correlation that counts as alike."""
    raw: Threshold = 0.0
    excess: Threshold = 0.0


def judge(nodes: Nodes, params: EarlierParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on activations of two layers and the states themselves."""
    shown = {
        "the sample": nodes[params.states]["x_t"],
        params.layer: nodes[f"{params.activations}/{params.layer}"]["activation"],
        params.control: nodes[f"{params.activations}/{params.control}"]["activation"],
    }
    alike = {name: alike_from(values, params.level) for name, values in shown.items()}
    raw = estimate(alike[params.layer] - alike["the sample"], alpha=alpha)
    beyond = estimate(alike[params.layer] - alike[params.control], alpha=alpha)
    outcome = decide(raw, beyond, raw_above=params.raw, excess_above=params.excess)
    rows = [
        Row(f"{params.layer} before the sample", raw, "steps"),
        Row(f"{params.layer} before {params.control}", beyond, "steps"),
        *(
            Row(f"t from which on {name} is like its end", estimate(values), "t")
            for name, values in alike.items()
        ),
    ]
    told = (
        f"{params.layer} is like its own end {_before(raw.mean)} the sample is, and {_before(beyond.mean)}"
        f" {params.control} is (alike: a correlation of at least {params.level:g})."
    )
    return verdict(outcome, beyond, told, unit="steps", rows=rows)


def alike_from(values: xr.DataArray, level: float) -> Values:
    """State t [seed] from which on the correlation with the last state stays at or above the level.

    Interpolated between the two states around it, and averaged over labels; the first state where it always is.
    """
    clean = values.sel({INTERVENTION: CLEAN}, drop=True).transpose(LABEL, SEED, TIME, CHANNEL, Y, X)
    flat = clean.values.astype(np.float64).reshape(*clean.shape[:3], -1)
    flat = flat - flat.mean(axis=-1, keepdims=True)
    flat = flat / np.sqrt((flat**2).sum(axis=-1, keepdims=True))
    r = (flat * flat[:, :, -1:]).sum(axis=-1)
    times = clean[TIME].values.astype(np.float64)
    crossings = np.array([[_crossing(line, times, level) for line in label] for label in r])
    return np.asarray(crossings.mean(axis=0))


def _crossing(r: Values, times: Values, level: float) -> float:
    below = np.flatnonzero(r < level)
    if not len(below):
        return float(times[0])
    last = below[-1]
    share = (level - r[last]) / (r[last + 1] - r[last])
    return float(times[last] + share * (times[last + 1] - times[last]))


def _before(steps: float) -> str:
    return f"{abs(steps):.0f} steps {'before' if steps > 0 else 'after'}"


RULE = Rule(
    "earlier",
    EarlierParams,
    lambda params: (
        params.states,
        f"{params.activations}/{params.layer}",
        f"{params.activations}/{params.control}",
    ),
    judge,
    "The state from which on the activation of `layer` correlates with its own last one by at least `level`, and the"
    " same of the sample, per seed. There is an effect if the layer is earlier than the sample by more than `raw`"
    " steps; it is confirmed if it is also earlier than `control`, which only repeats its input, by more than `excess`.",
)
