"""The verb: from a question in words to a dataset, computed once and kept beside the profile."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

import xarray as xr

from flowprofile.comparing.choosing import Asked, answerable, source_of
from flowprofile.comparing.findings import VARIABLES, Claim, checked_deltas, findings, floor_of
from flowprofile.comparing.keeping import keep, kept
from flowprofile.comparing.sides import Between, Held, Question, held, question
from flowprofile.comparing.spread import spread
from flowprofile.comparing.stored import Source
from flowprofile.comparing.tallying import Forests, forests, held_part
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.flow.fingerprint import key
from flowprofile.heap import keep_heap
from flowprofile.stats.curves import probability_of
from flowprofile.store.urls import Where

VERSION: Final = 1
"""Of what a comparison computes; raised when a result changes, so that older ones are not taken for it."""
DELTAS: Final = (0.05, 0.1, 0.2)


def compare(
    store: Where,
    other: Where | None = None,
    *,
    between: Between = None,
    measure: str = "ssim",
    excess: bool = False,
    delta: Sequence[float] = DELTAS,
    alpha: float = 0.05,
    family: Literal["pairs"] | None = None,
    label: Any = None,
    intervention: Any = None,
    seed: Any = None,
    time: Any = None,
    layer: str | None = None,
    window: int | None = None,
    data_range: float | None = None,
    run: str | Collection[str] | None = None,
    storage_options: Mapping[str, str] | None = None,
    cluster: str | None = None,
    remember: bool = True,
) -> xr.Dataset:
    """How different two conditions are over time, seed by seed, and from which state on.

    Parameters
    ----------
    store, other
        Where the profile is; a second one is compared with it, paired by seed.
    between
        ``{"label": (6, 7)}``, ``{"intervention": ("none", "switch@600->7")}`` (names or titles), ``"labels"`` for
        all pairs of labels. Left out where two stores are compared.
    measure
        A stored measure by its name, or a kind: ``"ssim"``, ``"mse"``, ``"l1"``. A kind that is not stored between
        these two is computed from the stored states, without asking the network. A curve that each case has by
        itself (step SSIM) is subtracted: the second's minus the first's.
    excess
        Whether interval and onset are of the excess over the null instead of the value itself. The null ends in the
        very images, so the excess is 0 at t = 0: give `time`, or no onset can be claimed.
    delta
        Thresholds of the onset; of 1 - SSIM at least .05.
    alpha
        Probability of error of an interval: at each state by itself, and for each onset.
    family
        ``"pairs"``: `alpha` is the probability that any pair's onset interval is wrong, so each has alpha over their
        number (Bonferroni). By default each pair stands alone, and of 120 pairs at 5 % six are expected to be wrong.
    label
        Labels whose curves are averaged per seed where interventions or stores are compared, or the labels of which
        all pairs are taken; by default all.
    intervention
        Under which labels or stores are compared; by default none.
    seed, time
        Which seeds and states, as `tree.profile.sel` takes them; by default all that both sides hold. A state that was
        dropped of some seed is left out, unless states are listed; the attribute ``left_out`` then says how many.
    layer
        Of a measure that has several.
    window, data_range
        Of SSIM; by default those of the only stored one, or 7 and the width of the model's pixel range.
    run
        Which run of a store with several; of two stores a pair.
    cluster
        Who reads the curves and adds them up, as `flowprofile run --cluster` takes it; by default this process. The
        result has the same bits.
    remember
        Whether the result is kept beside the profile; without it the store is only read.

    Returns
    -------
    xarray.Dataset
        Over ``time`` (descending): ``value`` and ``null``, how different the two are on the mean over seeds (1 - SSIM
        for SSIM); ``excess``, their difference; ``lower`` and ``upper``, the t interval of what is claimed; ``n``,
        how many seeds. Over ``delta``: ``onset``, the state from which on the mean stays above the threshold, with
        ``onset_lower <= onset <= onset_upper``; ``claimed``, whether it surely does; ``null_onset``. All pairs come
        along ``pair``, with ``label`` and ``other_label``. What does not exist is NaN.

    Raises
    ------
    DefinitionError
        If the question makes no sense: the same label twice, an unknown measure, fewer than 3 common seeds.
    StoreError
        If something is not stored, naming it and the command that computes it.

    Notes
    -----
    The result is kept in ``<store>/comparisons/`` and read again when the same is asked for; of a store that cannot be
    written to it is only returned, and its attribute ``not_kept`` says why.
    """
    asking = Asking(store, other, between, label, intervention, run, storage_options,
                    Asked(measure, window, data_range, layer, time))  # fmt: skip
    runs, asked, source = asking.answered()
    claim = Claim(bool(excess), checked_deltas(delta, source), probability_of(alpha) / _alone(family, asked))
    if claim.excess and not source.has_null:
        raise _without_null(source)
    every = len(source.times)
    source, seeds = held_part(
        source, seed, url=runs[0].place.url, free=time is None or isinstance(time, slice)
    )
    recipe = recipe_of(asked, source, claim, seeds)
    found = kept(runs[0].place, key(recipe))
    if found is None:
        if cluster is None:
            added = forests(source, seeds)
        else:
            added = spread(asking.sent(runs, source.times).forests, seeds, cluster, weight=source.weight)
        attrs = {"mode": asked.mode, "seeds": ranges(seeds), "version": VERSION, "recipe": key(recipe)}
        found = findings(asked, source, added.tallied(), claim, attrs)
        if remember:
            found = _keeping(runs[0], found)
    said: dict[str, str] = {} if family is None else {"family": family}
    if left_out := every - len(source.times):
        said["left_out"] = f"{left_out} of {every} states: of some seed they were dropped, or never asked for"
    return found[list(VARIABLES)].assign_attrs(between=str(asked), source=source.said, **said)


@dataclass(frozen=True)
class Asking:
    """What was asked, as it can be sent to a worker and be answered there."""

    store: Where
    other: Where | None
    between: Between
    label: Any
    intervention: Any
    run: str | Collection[str] | None
    storage_options: Mapping[str, str] | None
    how: Asked
    token: str = ""
    """Of one comparison: what a worker has opened for another one may have changed since."""

    def answered(self) -> tuple[tuple[Held, ...], Question, Source]:
        """The stores' runs, the question, and where its curves come from."""
        runs = _opened(self.store, self.other, self.run, self.storage_options)
        asked = question(runs, self.between, label=self.label, intervention=self.intervention)
        if self.label is None:
            asked = answerable(asked, self.how)
        return runs, asked, source_of(asked, self.how)

    def sent(self, runs: Sequence[Held], times: Sequence[int]) -> "Asking":
        """The same at those states that are compared, of addresses that hold in any working folder."""
        first, *others = [run.place.url for run in runs]
        there = [url if "://" in url else str(Path(url).absolute()) for url in (first, *others)]
        other, how = there[1] if others else None, replace(self.how, time=list(times))
        return replace(self, store=there[0], other=other, how=how, token=uuid4().hex)

    def forests(self, seeds: Sequence[int]) -> Forests:
        """The forests of some seeds, in whatever process this is; the stores are opened once."""
        if self.token not in _answered:
            keep_heap()
            _answered.clear()
            _answered[self.token] = self.answered()[2]
        return forests(_answered[self.token], seeds)


_answered: dict[str, Source] = {}
"""Where the curves of the latest comparison come from, in a worker."""


def recipe_of(asked: Question, source: Source, claim: Claim, seeds: Sequence[int]) -> dict[str, Any]:
    """Everything that decides a result, and nothing else: where stores are is not in it."""
    return {
        "comparison": VERSION,
        "mode": asked.mode,
        "sides": [[group.intervention, list(group.labels)] for group in asked.groups],
        "pairs": asked.pairs,
        "every": asked.every,
        "source": source.recipe,
        "times": source.times,
        "seeds": seeds,
        "claim": {"of": claim.of, "deltas": claim.deltas, "alpha": claim.alpha, "floor": floor_of(source)},
    }


def _alone(family: str | None, asked: Question) -> int:
    """How many intervals share one probability of error."""
    if family not in (None, "pairs"):
        raise DefinitionError(
            f"The family is {family!r}.",
            consequence="It is not known which intervals should hold together.",
            remedy='use "pairs", or leave it out',
        )
    return 1 if family is None else len(asked.pairs)


def _keeping(run: Held, found: xr.Dataset) -> xr.Dataset:
    """Keep a result; a store that cannot be written to is no reason to withhold it."""
    try:
        keep(run.place, str(found.attrs["recipe"]), found)
    except (StoreError, OSError) as error:
        return found.assign_attrs(not_kept=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    return found


def ranges(seeds: Sequence[int]) -> str:
    """Seeds in words.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0:3, 5, 7:9'
    """
    found: list[list[int]] = []
    for seed in seeds:
        if found and seed == found[-1][1]:
            found[-1][1] = seed + 1
        else:
            found.append([seed, seed + 1])
    return ", ".join(str(first) if stop == first + 1 else f"{first}:{stop}" for first, stop in found)


def _opened(
    store: Where,
    other: Where | None,
    run: str | Collection[str] | None,
    storage_options: Mapping[str, str] | None,
) -> tuple[Held, ...]:
    places = [store] if other is None else [store, other]
    names = [run] * len(places) if run is None or isinstance(run, str) else list(run)
    if len(names) != len(places):
        raise DefinitionError(
            f"{len(names)} runs are named for {len(places)} store(s).",
            consequence="Which belongs to which would be a guess.",
            remedy="give one name, or one for each store",
        )
    pairs = zip(places, names, strict=True)
    return tuple(held(where, name, storage_options) for where, name in pairs)


def _without_null(source: Source) -> DefinitionError:
    return DefinitionError(
        f"There is no null of {source.said}.",
        consequence="The excess over it is not known.",
        remedy="ask without excess; or store the finished images (stages.trajectory.keep with t = 0), of which the"
        " null is computed for ssim, mse and l1",
    )
