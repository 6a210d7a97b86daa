"""How far two cases are apart at every state, and what all seeds say of the same: plain JSON from `comparing`.

Where the two sides differ in one thing only (label, intervention, or run), `comparing` says of the mean over seeds
from which state on it exceeds a threshold. Whatever they differ in, the two pictures themselves have a distance.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile.app.asked import Query, Where
from flowprofile.app.curves import plain
from flowprofile.app.profiles import Profiles
from flowprofile.app.remedies import ensured
from flowprofile.axes import CHANNEL, LAYER, TIME, X, Y
from flowprofile.comparing.choosing import WINDOW, Asked
from flowprofile.comparing.states import MEASURES, STATES, States, pairwise
from flowprofile.comparing.stored import Source, difference, quantity
from flowprofile.comparing.verb import Asking, compare
from flowprofile.errors import FlowProfileError, StoreError
from flowprofile.stats.curves import LEAST_SEEDS
from flowprofile.store.lazy import STATUS, unchunked

SEEDS: Final = 512
"""Seeds that a stored curve is averaged over at most."""
PIXELS: Final = 1 << 16
"""Values of all seeds' pictures, where curves and nulls are computed from states: about a second's work."""
PRESENT: Final = 2
COMPARED: Final = "x_t"
"""Of what `MEASURES` are, whatever pictures are shown beside their curves."""
RUN: Final = "flowprofile_run"


@dataclass(frozen=True)
class Pair:
    """Two cases, each in an opened run."""

    profiles: Profiles
    tree: xr.DataTree
    where: Where
    other_profiles: Profiles
    other_tree: xr.DataTree
    other: Where

    @property
    def differs(self) -> tuple[str, ...]:
        """In what the two differ."""
        one, two = self.where, self.other
        pairs = {
            "run": (self._place(self.profiles, self.tree), self._place(self.other_profiles, self.other_tree)),
            "intervention": (one.intervention, two.intervention),
            "label": (one.label, two.label),
            "seed": (one.seed, two.seed),
        }
        return tuple(name for name, (a, b) in pairs.items() if a != b)

    @staticmethod
    def _place(profiles: Profiles, tree: xr.DataTree) -> tuple[str, str]:
        return profiles.url, str(tree.attrs[RUN])

    @property
    def question(self) -> dict[str, Any]:
        """The question to `comparing`, where the two differ in one thing that seeds are paired across."""
        one, two = self.where, self.other
        (what,) = self.differs
        if what == "label":
            return {"between": {"label": (one.label, two.label)}, "intervention": one.intervention}
        if what == "intervention":
            return {"between": {"intervention": (one.intervention, two.intervention)}, "label": one.label}
        return {"label": one.label, "intervention": one.intervention}

    @property
    def stores(self) -> tuple[str, str | None, Any]:
        """Where they are, and which runs."""
        runs = str(self.tree.attrs[RUN]), str(self.other_tree.attrs[RUN])
        if self.differs == ("run",):
            return self.profiles.url, self.other_profiles.url, runs
        return self.profiles.url, None, runs[0]


def parting(pair: Pair, asked: Query) -> dict[str, Any]:
    """The curves of a pair; what cannot be had is told beside the pictures and refuses nothing else."""
    measure = asked.get("measure", "ssim")
    try:
        if not pair.differs:
            raise StoreError("Both sides are one case.", remedy="choose another label, seed or intervention")
        if len(pair.differs) > 1 or pair.differs == ("seed",):
            return {"differs": list(pair.differs), **_alone(pair, measure)}
        return {"differs": list(pair.differs), **_over_seeds(pair, measure, asked)}
    except FlowProfileError as error:
        told = {"fact": error.fact, "consequence": error.consequence, "remedy": error.remedy}
        return {"differs": list(pair.differs), "refused": {**told, "evidence": error.evidence}}


def _alone(pair: Pair, measure: str) -> dict[str, Any]:
    """The distance of two pictures whose seeds cannot be paired: from their stored states."""
    if measure not in MEASURES:
        raise StoreError(
            f"The two differ in {' and '.join(pair.differs)}, and {measure!r} is not stored between such cases.",
            remedy=f"choose {', '.join(MEASURES)}: they are computed from the stored states",
        )
    times, first, second = _states(pair)
    low, high = pair.tree.attrs["model"]["pixel_range"]
    found = pairwise(measure, window=WINDOW, data_range=float(high) - float(low))
    values = difference(found(np.stack([first, second], axis=1), [(0, 1)])[:, 0], measure)
    why = "two seeds share no noise" if "seed" in pair.differs else "they differ in more than one thing"
    return {
        "quantity": quantity(measure),
        "of": COMPARED,
        "times": times,
        "own": plain(values),
        "n": 0,
        "note": f"the two pictures alone: {why}, so seeds are not paired and there is no interval",
    }


def _states(pair: Pair) -> tuple[list[int], Any, Any]:
    """The states that both hold, and both sides' pictures [time, channel, y, x]."""
    found = []
    for profiles, tree, where in (
        (pair.profiles, pair.tree, pair.where),
        (pair.other_profiles, pair.other_tree, pair.other),
    ):
        data = unchunked(tree[STATES].to_dataset()).sel(where.key()) if STATES in tree.children else None
        kept = [] if data is None else data[TIME].values[data[STATUS].values == PRESENT].tolist()
        if data is None or not kept:
            raise StoreError(
                "A side has no stored states.", remedy=f"compute them: {ensured(profiles.url, where)}"
            )
        found.append((data["x_t"], kept))
    times = sorted(set(found[0][1]) & set(found[1][1]), reverse=True)
    arrays = [np.asarray(x.sel({TIME: times}).transpose(TIME, CHANNEL, Y, X).values) for x, _ in found]
    if arrays[0].shape != arrays[1].shape or not times:
        raise StoreError(
            "The two sides' pictures have no state or no shape in common.", remedy="choose another side"
        )
    return times, arrays[0], arrays[1]


def _over_seeds(pair: Pair, measure: str, asked: Query) -> dict[str, Any]:
    """The distance of the two, and its mean over all seeds with interval and onsets."""
    store, other, run = pair.stores
    options = pair.profiles.storage_options
    # An address keeps the layer of the view it was of before, and a measure may have none.
    layers = layers_of(pair.tree, measure)
    how = Asked(measure, layer=(asked.get("layer") or layers[0]) if layers else None)
    parts: dict[str, Any] = {"between": None, "label": None, "intervention": None, **pair.question}
    _, _, source = Asking(store, other, run=run, storage_options=options, how=how, **parts).answered()
    excess = asked.get("excess") == "1" and source.has_null
    times = [t for t in source.times if t or not excess]
    found: dict[str, Any] = {
        "quantity": source.quantity,
        "of": COMPARED if measure in MEASURES else "",
        "source": source.said,
        "times": list(source.times),
    }
    found |= _own(pair, source)
    seeds, computed = _complete(source)
    if len(seeds) < LEAST_SEEDS:
        told = f"{computed} seed(s) are stored of both: an interval needs at least {LEAST_SEEDS}"
        return {**found, "n": computed, "note": told}
    result = compare(
        store, other, **pair.question, measure=measure, layer=how.layer, run=run, seed=list(seeds), time=times,
        excess=excess, storage_options=options, remember=False,
    )  # fmt: skip
    note = f"the first {len(seeds)} of {computed:,} computed seeds" if len(seeds) < computed else ""
    return {
        **found,
        **_told(result),
        "computed": computed,
        "note": note,
        "python": _python(pair, measure, how, seeds, times, excess),
    }


def layers_of(tree: xr.DataTree, measure: str) -> list[str]:
    """The layers of a measure that has several: a comparison is of one of them."""
    node = tree.children.get("measures", xr.DataTree()).children.get(measure)
    if node is None or LAYER not in node.dims:
        return []
    return [str(layer) for layer in node.to_dataset()[LAYER].values.tolist()]


def _own(pair: Pair, source: Source) -> dict[str, Any]:
    """The curve of the seed that is looked at, and its null."""
    seed = [pair.where.seed]
    if seed[0] not in source.seeds or (source.status(seed) != PRESENT).any():
        return {"own": None, "command": ensured(pair.profiles.url, pair.where)}
    value, null = source.values(seed)
    return {"own": plain(value[0, 0]), "own_null": None if null is None else plain(null[0, 0])}


def _complete(source: Source) -> tuple[list[int], int]:
    """Seeds of which both sides have every state: as many as can be averaged at once, and how many there are."""
    known = np.array(source.seeds, np.int64)
    whole = known[(source.status(source.seeds) == PRESENT).all(axis=1)] if len(known) else known
    most = SEEDS
    if isinstance(source, States):
        sizes = source.question.groups[0].held.nodes[STATES].sizes
        most = max(LEAST_SEEDS, min(SEEDS, PIXELS // (sizes[CHANNEL] * sizes[Y] * sizes[X])))
    return whole[:most].tolist(), len(whole)


def _told(result: xr.Dataset) -> dict[str, Any]:
    """A comparison's dataset as JSON."""
    curves = ("value", "null", "excess", "lower", "upper")
    onsets = ("onset", "onset_lower", "onset_upper", "null_onset")
    return {
        "n": int(result["n"].values.max()),
        "claimed": str(result.attrs["claimed"]),
        "alpha": float(result.attrs["alpha"]),
        "mean_times": result[TIME].values.tolist(),
        "mean": {name: plain(result[name].values) for name in curves},
        "onsets": [
            {
                "delta": float(delta),
                "claimed": bool(result["claimed"].values[at]),
                **{name: plain(result[name].values[at : at + 1])[0] for name in onsets},
            }
            for at, delta in enumerate(result["delta"].values.tolist())
        ],
    }


def _python(pair: Pair, measure: str, how: Asked, seeds: list[int], times: list[int], excess: bool) -> str:
    """The call that gives the same."""
    store, other, run = pair.stores
    given = {**pair.question, "measure": measure, "run": run, "seed": seeds}
    given |= {"layer": how.layer} if how.layer else {}
    given |= {"excess": True, "time": times} if excess else {}
    places = [repr(place) for place in (store, other) if place is not None]
    return f"fp.compare({', '.join([*places, *(f'{k}={v!r}' for k, v in given.items())])})"
