"""Whether channels of some layers matter more than those of others, beside random channels of the same layers."""

from fnmatch import fnmatchcase

import xarray as xr

from flowprofile.axes import INTERVENTION, LABEL, SEED, TIME
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError, nearest
from flowprofile.report.rules.base import Nodes, Rule, Threshold, titled
from flowprofile.report.verdicts import ALPHA, Row, Verdict, decide, estimate, verdict


class AblationParams(Table):
    """Parameters of the rule."""

    stage: str
    own: str = "own"
    """Title of the ablations of each sample's own strongest channels."""
    control: str = "control"
    """Title of those of random channels."""
    more: list[str]
    """Layers whose ablation is claimed to hurt more; exact names or globs."""
    less: list[str]
    raw: Threshold = 0.0
    excess: Threshold = 0.0


def judge(nodes: Nodes, params: AblationParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on nodes[stage], SSIM to the clean run at the finished picture."""
    own, control = (_damage(nodes[params.stage], title) for title in (params.own, params.control))
    groups = [_layers(own, globs) for globs in (params.more, params.less)]
    ours, theirs = (_contrast(damage, *groups) for damage in (own, control))
    raw, beyond = estimate(ours.values, alpha=alpha), estimate((ours - theirs).values, alpha=alpha)
    outcome = decide(raw, beyond, raw_above=params.raw, excess_above=params.excess)
    more, less = (", ".join(globs) for globs in (params.more, params.less))
    rows = [
        Row(f"own channel: {more} minus {less}", raw, "1 − SSIM"),
        Row("the same of random channels", estimate(theirs.values), "1 − SSIM"),
        Row("own beyond random", beyond, "1 − SSIM"),
        *(
            Row(f"{layer}, {title} channel", estimate(damage.sel(layer=layer).values), "1 − SSIM")
            for layer in own["layer"].values
            for title, damage in (("own", own), ("random", control))
        ),
    ]
    told = (
        f"Ablating a sample's own channel costs {raw.mean:+.3g} more SSIM in {more} than in {less};"
        f" {beyond.mean:+.3g} of that is more than random channels of the same layers cost."
    )
    return verdict(outcome, beyond, told, unit="1 − SSIM", rows=rows)


def _damage(node: xr.Dataset, title: str) -> xr.DataArray:
    """1 - SSIM to the clean picture [seed, layer], the mean over labels and over channels of a layer."""
    values = titled(node["value"], title)
    if 0 not in values[TIME].values:
        raise DefinitionError(
            "The comparison with the clean runs does not keep t = 0.",
            consequence="What an ablation does to the finished picture cannot be told.",
            remedy="keep the state 0 there",
        )
    damage = 1.0 - values.sel({TIME: 0}).mean(LABEL)
    layers = damage["target_layer"].astype(str)
    plain = damage.drop_vars([name for name in damage.coords if name not in (SEED, INTERVENTION)])
    found = plain.groupby(xr.DataArray(layers.values, dims=INTERVENTION, name="layer")).mean(INTERVENTION)
    return found.sel(layer=list(dict.fromkeys(layers.values.tolist()))).transpose(SEED, "layer")


def _layers(damage: xr.DataArray, globs: list[str]) -> list[str]:
    held = [str(layer) for layer in damage["layer"].values]
    found = [layer for layer in held if any(fnmatchcase(layer, one) for one in globs)]
    if not found:
        raise DefinitionError(
            f"No ablated layer is meant by {globs!r}.",
            consequence="There are no two groups to compare.",
            remedy=nearest(globs[0] if globs else "", held),
        )
    return found


def _contrast(damage: xr.DataArray, more: list[str], less: list[str]) -> xr.DataArray:
    return damage.sel(layer=more).mean("layer") - damage.sel(layer=less).mean("layer")


RULE = Rule(
    "ablation",
    AblationParams,
    lambda params: (params.stage,),
    judge,
    "The loss of SSIM to the clean picture, own strongest channel ablated, in the layers `more` minus the layers"
    " `less`, per seed. It is there if its whole interval lies above `raw`; it is confirmed if, with the same contrast"
    " of random channels of the same layers taken away, it lies above `excess`.",
)
