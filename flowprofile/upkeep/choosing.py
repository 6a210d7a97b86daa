"""Which cells of which stages are meant."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from flowprofile.errors import DefinitionError, nearest
from flowprofile.store.record import RunRecord, StageRecord
from flowprofile.store.store import Store
from flowprofile.time.steps import kept, respaced

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """Some cells of some stages; what is left out means all of it."""

    stages: tuple[str, ...] = ("*",)
    """Globs over the names a profile shows: ``trajectory``, ``activations/*``, ``measures/step_ssim``."""
    seeds: tuple[int, ...] | None = None
    labels: tuple[int, ...] | None = None
    interventions: tuple[str, ...] | None = None
    but_times: str | None = None
    """A step filter over the sampler's states, as in a definition: all states but those it keeps."""
    times: str | None = None
    """A step filter of the same kind: these states and no others."""
    span: tuple[int, int] | None = None
    """Only states from the first t down to the second, both included."""

    def axes(self, run: RunRecord, stage: StageRecord) -> tuple[Flags, Flags, Flags, Flags]:
        """What is meant along each axis of a stage."""
        times = stage.time or (0,)
        spared = set() if self.but_times is None else set(kept(self.but_times, _grid(run, stage)))
        if self.times is not None and stage.time is not None:
            spared |= set(times) - set(kept(self.times, _grid(run, stage)))
        if self.span is not None and stage.time is not None:
            spared |= {t for t in times if not self.span[1] <= t <= self.span[0]}
        return (
            _among(run.interventions, self.interventions),
            _among(run.labels, self.labels),
            _among(run.seeds, self.seeds),
            np.array([t not in spared for t in times]),
        )

    def groups(self, store: Store) -> Iterator[tuple[str, str]]:
        """Run and stage folders that are meant.

        Raises
        ------
        DefinitionError
            If a name means none.
        """
        known = [(run, group) for run in store.runs() for group in store.stages(run)]
        names = {(run, group): store.stages(run)[group].group for run, group in known}
        for pattern in self.stages:
            if not any(fnmatchcase(name, pattern) for name in names.values()):
                raise DefinitionError(
                    f"{store.url} has no stage {pattern!r}.",
                    consequence="Nothing was done.",
                    remedy=nearest(pattern, dict.fromkeys(names.values())),
                )
        for at, name in names.items():
            if any(fnmatchcase(name, pattern) for pattern in self.stages):
                yield at


def _grid(run: RunRecord, stage: StageRecord) -> tuple[int, ...]:
    """The states the sampler visits, which a filter counts; those that are stored may be fewer."""
    total, steps = run.attrs.get("model", {}).get("steps"), stage.attrs.get("sampler", {}).get("steps")
    if stage.time is None:
        return (0,)
    return respaced(total, steps) if total and steps else tuple(sorted(stage.time, reverse=True))


def _among(values: Sequence[object], wanted: Sequence[object] | None) -> Flags:
    if wanted is None:
        return np.ones(len(values), bool)
    chosen = set(wanted)
    return np.array([value in chosen for value in values], bool)
