"""What can be said of one stored measure, with intervals: over time, over switches, over layers.

A measure is stored per case. What a researcher wants to say is about the mean over all seeds there could be, and every
statement here is of that kind: the unit is the seed, labels are averaged first, and what is uncertain says by how much.
The statistics are `flowprofile.stats`; this is where they meet a profile, without torch.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.axes import INTERVENTION, LABEL, LAYER, OTHER, SEED, TIME
from flowprofile.cases import CLEAN
from flowprofile.errors import DefinitionError, StoreError, nearest
from flowprofile.opening import one_run
from flowprofile.stats.bounds import MeanBounds, mean_bounds
from flowprofile.stats.curves import NEVER
from flowprofile.stats.families import family
from flowprofile.stats.kink import LEAST_STEPS, kinks
from flowprofile.stats.plateau import find_dips, plateau
from flowprofile.stats.predetermination import LEVEL, predetermination
from flowprofile.store.lazy import STATUS

GROUP: Final = "measures/"
SWITCH: Final = "switch"
UNASKED: Final = 0
"""The status of cells that nobody asked for."""
PRESENT: Final = 2
"""The status of cells that are stored."""


def measure_of(tree: xr.DataTree, name: str) -> xr.Dataset:
    """A stored measure of one run by its name; a wrong one is refused with the nearest."""
    tree = one_run(tree, consequence="Which of them is asked would be a guess.")
    held = tree.children.get("measures", xr.DataTree()).children
    short = name.removeprefix(GROUP)
    if short not in held:
        raise StoreError(
            f"The profile holds no measure {short!r}.",
            remedy=nearest(short, held) if held else 'compute one, such as [stages.step_ssim] use = "ssim"',
        )
    return held[short].to_dataset()


def titled(values: xr.DataArray, title: str) -> xr.DataArray:
    """The interventions of a title, as a definition calls them; "none" are the clean runs."""
    titles = [str(one) for one in values["title"].values] if "title" in values.coords else [CLEAN]
    places = [place for place, one in enumerate(titles) if one == title]
    if not places:
        raise DefinitionError(
            f"No intervention is titled {title!r}.",
            consequence="There is no run that an answer could be read from.",
            remedy=nearest(title, dict.fromkeys(titles)),
        )
    return values.isel({INTERVENTION: places})


def curve(values: xr.DataArray, *, title: str = CLEAN) -> xr.DataArray:
    """The runs of one title as [seed, time, ...]: the mean over its interventions and labels, or pairs of labels.

    The seed is what is drawn at random, so labels are averaged first: two labels of one seed share all their noise.
    """
    if INTERVENTION in values.dims:
        values = titled(values, title).mean(INTERVENTION)
    if OTHER in values.dims:
        values = values.where(values[LABEL] != values[OTHER]).mean([LABEL, OTHER], skipna=True)
    elif LABEL in values.dims:
        values = values.mean(LABEL)
    return values.transpose(SEED, TIME, ...)


def of_label(node: xr.Dataset, label: int | None) -> xr.Dataset:
    """The cells of one label, or, where none is named, of all labels that anything was asked of."""
    if LABEL not in node.dims:
        return node
    held = node[LABEL].values.tolist()
    if label is not None:
        if label not in held:
            raise StoreError(
                f"The measure has no label {label!r}.", remedy=f"it has {', '.join(map(str, held))}"
            )
        return node.sel({LABEL: [label]})
    if STATUS not in node:
        return node
    asked = (node[STATUS] != UNASKED).any([dim for dim in node[STATUS].dims if dim != LABEL]).values
    return node.isel({LABEL: np.flatnonzero(asked)}) if asked.any() else node


def over_time(
    node: xr.Dataset,
    *,
    title: str = CLEAN,
    layer: str | None = None,
    label: int | None = None,
    alpha: float = 0.05,
    window: int = 100,
    margin: float | None = None,
) -> xr.Dataset:
    """The mean of a measure at each state, with its null; where it bends, stands still, and lies below its null.

    Parameters
    ----------
    node
        A measure of a profile, with `value` and perhaps `null`.
    title
        Which runs; the clean ones by default.
    layer
        Of a measure that has several.
    label
        Of these samples; by default all labels that were asked for, averaged seed by seed.
    alpha
        Probability of error of each interval, of each window of a plateau, and of the search for a dip.
    window
        Width, in t, of the windows of plateau and dip.
    margin
        How much a curve may change in 100 t and stand still; without it no plateau is looked for.

    Returns
    -------
    xarray.Dataset
        Over `time`, t descending: `value`, `lower`, `upper`, and where there is a null `null`, `excess`,
        `excess_lower`, `excess_upper` (of each state by itself). Without dims: `kink` and `kink_gain`; `plateau_first`,
        `plateau_last`, `plateau_p` (for having looked at all windows); `dip_first`, `dip_last`, `dip` (the mean excess there): states t, NaN for none.
    """
    _refuse_alpha(alpha)
    data = _of_layer(of_label(node, label), layer)
    value = curve(_value(data), title=title)
    _refuse_more(value)
    ours = np.asarray(value.values, np.float64)
    times = value[TIME].values.astype(np.float64)
    made = mean_bounds(ours, alpha=alpha / 2)
    found: dict[str, Any] = {"value": made.mean, "lower": made.lower, "upper": made.upper}
    known = np.asarray(curve(data["null"], title=title).values, np.float64) if "null" in data else None
    if known is not None:
        beyond = mean_bounds(ours - known, alpha=alpha / 2)
        found |= {"null": known.mean(axis=0), "excess": beyond.mean}
        found |= {"excess_lower": beyond.lower, "excess_upper": beyond.upper}
    alone = {**_kink(made, times), **_still(ours, times, window, margin, alpha)}
    if known is not None:
        alone |= _below(ours, known, times, window, alpha)
    return xr.Dataset(
        {name: (TIME, values) for name, values in found.items()} | alone,
        coords={TIME: value[TIME].values},
        attrs={
            "n": made.n,
            "alpha": alpha,
            "title": title,
            "window": window,
            "windows": _width(times, window) is not None,
        },
    )


def settled(
    node: xr.Dataset,
    *,
    done: str | None = None,
    label: int | None = None,
    level: float = LEVEL,
    alpha: float = 0.05,
) -> xr.Dataset:
    """From which switch on the finished picture no longer changes, by a measure to the run that was not switched.

    Parameters
    ----------
    node
        A measure to the clean run (SSIM is turned into 1 - SSIM), or `fidelity`, of switched runs, at t = 0.
    done
        Title of the switches, where there are several kinds.
    label
        The label that runs began with, where there are several. A measure is averaged over labels seed by seed; outcomes
        of several labels are no outcome, so one must be named.
    level
        How much of the measure, or which share of changed outcomes, counts as nothing.

    Returns
    -------
    xarray.Dataset
        Over `switch` (the state t, descending): `changed`, `lower`, `upper`, `falling`. Without dims: `estimate`,
        `first` and `last` (it is settled not before `first`, and surely from `last` on; NaN where nothing is
        claimed) and `flat`.
    """
    _refuse_alpha(alpha)
    values, steps = _switched(node, done, label)
    found = predetermination(values, level=level, alpha=alpha)
    alone = {"estimate": found.estimate, "first": found.lower, "last": found.upper}
    return xr.Dataset(
        {
            "changed": ("switch", found.bounds.mean),
            "lower": ("switch", found.bounds.lower),
            "upper": ("switch", found.bounds.upper),
            "falling": ("switch", found.falling),
            **{name: _state(step, steps) for name, step in alone.items()},
            "flat": found.flat,
        },
        coords={"switch": steps},
        attrs={"n": found.bounds.n, "level": level, "alpha": alpha, "claimed": found.claimed},
    )


def by_layer(node: xr.Dataset, between: tuple[int, int], *, title: str = CLEAN, key: int = 0) -> xr.Dataset:
    """At which layers and states two labels differ, all of them tested as one family, paired by seed.

    Returns
    -------
    xarray.Dataset
        Over `layer` and `time`: `difference` (the second label's mean minus the first's), `effect` (Hedges-corrected
        dz), `p_familywise` (sign-flip max-T, step-down) and `q` (Benjamini-Hochberg).
    """
    if LAYER not in node.dims or OTHER in node.dims:
        raise DefinitionError(
            "The measure is not one of layers that every case has by itself.",
            consequence="There are no layers at which two labels could be told apart.",
            remedy='name a measure such as [stages.layer_distance] between = "steps"; for two labels as such, compare',
        )
    held = node[LABEL].values.tolist()
    if between[0] == between[1]:
        raise DefinitionError(
            f"The label {between[0]} is asked for twice.",
            consequence="It does not differ from itself, at any layer.",
            remedy="name two labels",
        )
    if strange := [label for label in between if label not in held]:
        raise StoreError(
            f"The measure has no label {strange[0]!r}.", remedy=f"it has {', '.join(map(str, held))}"
        )
    values = titled(_value(node), title).mean(INTERVENTION)
    first, second = (values.sel({LABEL: label}).transpose(SEED, LAYER, TIME) for label in between)
    differences = (second - first).values.astype(np.float64)
    tested = family(differences, key=key)
    arrays = {
        "difference": differences.mean(axis=0),
        "effect": tested.effect,
        "p_familywise": tested.p_familywise,
        "q": tested.q,
    }
    return xr.Dataset(
        {name: ((LAYER, TIME), array) for name, array in arrays.items()},
        coords={LAYER: node[LAYER].values, TIME: node[TIME].values},
        attrs={"n": tested.n, "between": list(between), "draws": tested.draws, "exact": tested.exact},
    )


def _value(node: xr.Dataset) -> xr.DataArray:
    """The values of a measure that has one kind of them."""
    if "value" not in node:
        held = [str(name) for name in node.data_vars if name != "status"]
        raise DefinitionError(
            f"The measure holds {', '.join(held)}, and no plain value.",
            consequence="Which of them is meant would be a guess.",
            remedy="query it (fp.open), and give the array [seed, step] to flowprofile.stats",
        )
    return node["value"]


def _of_layer(node: xr.Dataset, layer: str | None) -> xr.Dataset:
    if LAYER not in node.dims:
        if layer is not None:
            raise DefinitionError(
                f"The measure has no layers, and asked for is its layer {layer!r}.",
                consequence="The answer would be of the whole image, and be taken for that layer's.",
                remedy="leave the layer out, or name a measure that has layers, such as one of use = 'layer_distance'",
            )
        return node
    held = [str(one) for one in node[LAYER].values]
    if layer not in held:
        raise DefinitionError(
            f"The measure has {len(held)} layers, and {'none is named' if layer is None else f'{layer!r} is none of them'}.",
            consequence="A mean over layers of different sizes means nothing.",
            remedy=f"name one: {', '.join(held[:6])}{', ...' if len(held) > 6 else ''}",
        )
    return node.sel({LAYER: layer})


def _refuse_more(value: xr.DataArray) -> None:
    if value.ndim != 2:
        raise DefinitionError(
            f"A case has {list(value.dims[2:])!r} of this measure at every state.",
            consequence="It is no curve over time.",
            remedy="take a measure with one number a state (ssim, mse, l1, psnr, layer_distance), or query it: fp.open",
        )


def _kink(made: MeanBounds, times: npt.NDArray[np.float64]) -> dict[str, float]:
    """The broken stick of the mean, where states are evenly spaced."""
    if _spacing(times) is None or len(times) < LEAST_STEPS:
        return {"kink": np.nan, "kink_gain": np.nan}
    found = kinks(made.mean[None])
    return {"kink": _state(int(found.step[0]), times), "kink_gain": float(found.gain[0])}


def _still(
    ours: npt.NDArray[np.float64],
    times: npt.NDArray[np.float64],
    window: int,
    margin: float | None,
    alpha: float,
) -> dict[str, float]:
    width = _width(times, window)
    if margin is None or width is None:
        return dict.fromkeys(("plateau_first", "plateau_last", "plateau_p"), np.nan)
    spacing = _spacing(times) or 1.0
    found = plateau(ours, margin * spacing / 100, width=width, alpha=alpha)
    ends = {"plateau_first": found.first, "plateau_last": found.last}
    return {name: _state(step, times) for name, step in ends.items()} | {"plateau_p": found.p_familywise}


def _below(
    ours: npt.NDArray[np.float64],
    known: npt.NDArray[np.float64],
    times: npt.NDArray[np.float64],
    window: int,
    alpha: float,
) -> dict[str, float]:
    width = _width(times, window)
    if width is None:
        return dict.fromkeys(("dip_first", "dip_last", "dip"), np.nan)
    found = find_dips(ours, known, width=width, alpha=alpha)
    depth = np.nan
    if found.first != NEVER:
        depth = float((ours - known)[:, found.first : found.last + 1].mean())
    return {
        "dip_first": _state(found.first, times),
        "dip_last": _state(found.last, times),
        "dip": depth,
    }


def _spacing(times: npt.NDArray[np.float64]) -> float | None:
    """States between neighbours, where it is one number."""
    gaps = -np.diff(times)
    return float(gaps[0]) if len(gaps) and (gaps == gaps[0]).all() else None


def _width(times: npt.NDArray[np.float64], window: int) -> int | None:
    """Steps of a window of so many t; None where states are unevenly spaced or too few."""
    spacing = _spacing(times)
    if spacing is None:
        return None
    width = max(2, round(window / spacing) + 1)
    return width if width <= len(times) else None


def _refuse_alpha(alpha: float) -> None:
    if not 0 < alpha < 0.5:
        raise DefinitionError(
            f"alpha is {alpha!r}.",
            consequence="A statement that may be wrong every second time is none.",
            remedy="pass a probability of error between 0 and .5, such as .05",
        )


def _switched(
    node: xr.Dataset, done: str | None, label: int | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How much every switch changes the finished picture [seed, switch], and the states they are at."""
    kinds = [str(kind) for kind in node["kind"].values] if "kind" in node.coords else []
    places = [at for at, kind in enumerate(kinds) if kind == SWITCH]
    titles = sorted({str(node["title"].values[at]) for at in places}) if places else []
    if done is None and len(titles) == 1:
        done = titles[0]
    if done not in titles:
        raise DefinitionError(
            f"{done!r} names no switches of the label."
            if titles
            else "Nothing was switched in this profile.",
            consequence="Until when the label can be changed cannot be told.",
            remedy=f"name one: {', '.join(titles)}"
            if titles
            else 'run label-switch, or a pipeline with kind = "switch"',
        )
    outcome = "predicted" in node
    if not outcome and node.attrs.get("params", {}).get("between") != "clean":
        raise DefinitionError(
            "The measure does not compare with the run that was not switched.",
            consequence="What it says of a switched run is no change that the switch made.",
            remedy='name a measure with between = "clean", or fidelity',
        )
    if 0 not in node[TIME].values:
        raise DefinitionError(
            "The measure does not keep t = 0.",
            consequence="Whether the finished picture changed cannot be told.",
            remedy="keep the state 0 there",
        )
    chosen = [at for at in places if str(node["title"].values[at]) == done]
    chosen.sort(key=lambda at: -int(node["switch_step"].values[at]))
    steps = node["switch_step"].values[chosen].astype(np.float64)
    ends = node.sel({TIME: 0})
    asked = of_label(ends.isel({INTERVENTION: chosen}), label)
    labels = asked[LABEL].values.tolist()
    if STATUS in asked and (asked[STATUS] != PRESENT).any():
        raise StoreError(
            f"{int((asked[STATUS] != PRESENT).sum())} of the switched runs' cells are not stored.",
            consequence="What did not change could not be told from what is not known.",
            remedy="run the pipeline again, or name a label whose runs are all there",
        )
    if outcome:
        if len(labels) > 1:
            raise DefinitionError(
                f"Runs of the labels {', '.join(map(str, labels))} were switched.",
                consequence="Whether an outcome changed is yes or no; a mean of several labels is neither.",
                remedy="name one label",
            )
        clean = titled(ends["predicted"], CLEAN).isel({INTERVENTION: 0}, drop=True).sel({LABEL: labels})
        changed = asked["predicted"] != clean
    else:
        changed = 1.0 - asked["value"] if node.attrs.get("kind") == "ssim" else asked["value"]
    return changed.mean(LABEL).transpose(SEED, INTERVENTION).values.astype(np.float64), steps


def _state(step: int, times: npt.NDArray[np.float64]) -> float:
    return float("nan") if step == NEVER else float(times[step])
