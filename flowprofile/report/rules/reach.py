"""Whether pixels are pulled from farther away in late steps than in early ones.

What the thesis counts, pixels above a fixed threshold, grows towards the image even for an exact Gaussian denoiser,
whose true reach shrinks: late rows have larger entries, not farther ones. So the count is the raw effect here, and
the radius of influence, which does not change if a row is multiplied by any number, is what must grow for it to hold.
Where the stage has them, the table shows count and radius of such a denoiser too.
"""

import xarray as xr

from flowprofile.axes import PIXEL, TIME
from flowprofile.definitions import Table
from flowprofile.report.rules.base import Nodes, Rule, Span, Threshold, curve, over
from flowprofile.report.verdicts import ALPHA, Row, Verdict, decide, estimate, verdict


class ReachParams(Table):
    """Parameters of the rule."""

    stage: str
    early: Span
    late: Span
    raw: Threshold = 0.0
    """Pixels above the threshold."""
    excess: Threshold = 0.0
    """Pixels of radius."""


def judge(nodes: Nodes, params: ReachParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on nodes[stage], a stage `influence` with threshold = true."""
    node = nodes[params.stage]
    counted, radius = (_later(node[name], params) for name in ("above_mean", "radius"))
    raw, beyond = estimate(counted.values, alpha=alpha), estimate(radius.values, alpha=alpha)
    outcome = decide(raw, beyond, raw_above=params.raw, excess_above=params.excess)
    early, late = (f"t = {span[0]}..{span[1]}" for span in (params.early, params.late))
    rows = [
        Row("pixels above the thesis' threshold, late minus early", raw, "pixels"),
        Row("radius of influence, late minus early", beyond, "pixels"),
        *(
            Row(f"{told}, {when}", estimate(_at(node[name], span, params).values), "pixels")
            for name, told in (("above_mean", "above the threshold"), ("radius", "radius"))
            for when, span in ((early, params.early), (late, params.late))
        ),
    ]
    rows += [
        Row(
            f"{told} of an exact Gaussian denoiser, late minus early",
            estimate(_later(node[name], params)),
            "pixels",
        )
        for name, told in (("above_mean_gaussian", "count"), ("radius_gaussian", "radius"))
        if name in node
    ]
    grows = "grows" if beyond.mean > 0 else "shrinks"
    told = (
        f"From {early} to {late} the thesis' count changes by {raw.mean:+.3g} pixels, while the radius of influence"
        f" {grows} by {abs(beyond.mean):.3g} pixels."
    )
    return verdict(outcome, beyond, told, unit="pixels", rows=rows)


def _later(values: xr.DataArray, params: ReachParams) -> xr.DataArray:
    return _at(values, params.late, params) - _at(values, params.early, params)


def _at(values: xr.DataArray, span: tuple[int, int], params: ReachParams) -> xr.DataArray:
    return over(curve(values), span, where=params.stage).mean([TIME, PIXEL])


RULE = Rule(
    "reach",
    ReachParams,
    lambda params: (params.stage,),
    judge,
    "The thesis' count of pixels above its threshold, late minus early, per seed: there if its whole interval lies"
    " above `raw`. Confirmed if the radius of influence, which no scale of the gradients can change, grows by more than"
    " `excess` pixels too; else the count is an artefact of its threshold.",
)
