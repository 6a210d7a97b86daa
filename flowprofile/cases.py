"""One sample's whole identity, and a sweep of many.

Everything that makes a sample what it is, besides the model and the sampler, is a coordinate of its case. Two
cases that agree are the same sample, whatever batch, order, worker or day they were computed in.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

from flowprofile.errors import DefinitionError

CLEAN = "none"
"""The intervention that changes nothing."""


@dataclass(frozen=True, order=True)
class Case:
    """One sample."""

    seed: int
    """Noise seed; with the step t it determines every random number the sample uses."""
    label: int
    """Label number in the model's own label space."""
    intervention: str = CLEAN
    """Name of what was done to the model."""

    @property
    def clean(self) -> bool:
        """Whether nothing was done to the model."""
        return self.intervention == CLEAN

    @property
    def twin(self) -> "Case":
        """The same sample with nothing done to the model."""
        return replace(self, intervention=CLEAN)

    def __str__(self) -> str:
        text = f"seed {self.seed}, label {self.label}"
        return text if self.clean else f"{text}, intervention {self.intervention!r}"


@dataclass(frozen=True)
class Sweep:
    """The product of seeds, labels and interventions, in the order in which they were asked for.

    An intervention may be restricted to some of the labels: a switch to label 7 is none for label 7.
    """

    seeds: tuple[int, ...]
    labels: tuple[int, ...]
    interventions: tuple[str, ...] = (CLEAN,)
    restricted: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Interventions that apply to some labels only, with those labels."""
    told: Mapping[int, int] | None = field(default=None, hash=False)
    """Where every seed has one label of its own, which; None where each seed is asked for under every label."""

    def __post_init__(self) -> None:
        for axis, values in (
            ("seeds", self.seeds),
            ("labels", self.labels),
            ("interventions", self.interventions),
        ):
            if not values:
                raise DefinitionError(
                    f"The sweep has no {axis}.",
                    consequence="There would be no sample to compute.",
                    remedy=f"give at least one of the {axis}",
                )
            repeated = [str(value) for value, count in Counter(values).items() if count > 1]
            if repeated:
                raise DefinitionError(
                    f"The sweep names {axis} twice: {', '.join(repeated)}.",
                    consequence="A sample would be counted twice in every mean.",
                    remedy=f"name each of the {axis} once",
                )
        for seed in self.seeds:
            if not 0 <= seed < 2**63:
                raise DefinitionError(
                    f"Seed {seed!r} is out of range.",
                    consequence="The noise of a seed is keyed by an unsigned number and stored as int64.",
                    remedy="use seeds in 0 .. 2**63 - 1",
                )

    def labels_of(self, intervention: str) -> tuple[int, ...]:
        """The labels an intervention is applied to."""
        return dict(self.restricted).get(intervention, self.labels)

    def seeds_of(self, label: int) -> tuple[int, ...]:
        """The seeds that are asked for under a label."""
        if self.told is None:
            return self.seeds
        return tuple(seed for seed in self.seeds if self.told[seed] == label)

    def boxes(self) -> Iterator["Sweep"]:
        """The sweep as full products: neighbouring interventions with the same labels together."""
        for labels, names in groupby(self.interventions, key=self.labels_of):
            if self.told is None:
                yield Sweep(self.seeds, labels, tuple(names))
                continue
            whole = tuple(names)
            parts = ((label, self.seeds_of(label)) for label in labels)
            yield from (Sweep(seeds, (label,), whole) for label, seeds in parts if seeds)

    def only(self, interventions: Iterable[str]) -> "Sweep | None":
        """The part with these interventions; None where there is none."""
        wanted = set(interventions)
        kept = tuple(name for name in self.interventions if name in wanted)
        return replace(self, interventions=kept) if kept else None

    def __len__(self) -> int:
        if self.told is None:
            return len(self.seeds) * sum(len(self.labels_of(name)) for name in self.interventions)
        return sum(len(box.seeds) * len(box.interventions) for box in self.boxes())

    def __iter__(self) -> Iterator[Case]:
        return (
            Case(seed, label, intervention)
            for intervention in self.interventions
            for label in self.labels_of(intervention)
            for seed in self.seeds_of(label)
        )
