"""Whether an ablation acts inside of a region more than outside of it, and more so than random channels do."""

import xarray as xr

from flowprofile.axes import INTERVENTION, LABEL, SEED, TIME
from flowprofile.definitions import Table
from flowprofile.report.rules.base import Nodes, Rule, Threshold, titled
from flowprofile.report.verdicts import ALPHA, Row, Verdict, decide, estimate, verdict


class LocalityParams(Table):
    """Parameters of the rule."""

    stage: str
    own: str = "own"
    control: str = "control"
    raw: Threshold = 0.0
    excess: Threshold = 0.0


def judge(nodes: Nodes, params: LocalityParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on nodes[stage], the mean absolute change inside and outside of a mask."""
    node = nodes[params.stage]
    found = {
        (title, side): _change(node[side], title)
        for title in (params.own, params.control)
        for side in ("inside", "outside")
    }
    ours, theirs = (
        found[title, "inside"] - found[title, "outside"] for title in (params.own, params.control)
    )
    raw, beyond = estimate(ours.values, alpha=alpha), estimate((ours - theirs).values, alpha=alpha)
    outcome = decide(raw, beyond, raw_above=params.raw, excess_above=params.excess)
    unit = str(node["inside"].attrs.get("units", "1"))
    rows = [
        *(
            Row(f"change {side}, {title}", estimate(values.values), unit)
            for (title, side), values in found.items()
        ),
        Row("inside minus outside, own", raw, unit),
        Row("inside minus outside, random", estimate(theirs.values), unit),
        Row("own beyond random", beyond, unit),
    ]
    told = (
        f"The own channel changes the region by {raw.mean:+.3g} more than what is outside of it; random channels of"
        f" the layer do so by {estimate(theirs.values).mean:+.3g}."
    )
    return verdict(outcome, beyond, told, unit=unit, rows=rows)


def _change(values: xr.DataArray, title: str) -> xr.DataArray:
    """The change of the finished picture [seed], the mean over labels and interventions of a title."""
    return titled(values, title).sel({TIME: 0}).mean([LABEL, INTERVENTION]).transpose(SEED)


RULE = Rule(
    "locality",
    LocalityParams,
    lambda params: (params.stage,),
    judge,
    "The mean absolute change of the finished picture inside of the mask minus outside of it, own channel ablated, per"
    " seed. It is there if its whole interval lies above `raw`; it is confirmed if what is beyond random channels of"
    " the same layer lies above `excess`.",
)
