"""The pipeline as a graph: stages in the order in which they can be computed, each with its key and its level.

The *level* of a stage counts how many times the end of a chain must have been seen before the stage can begin:
a measure between neighbouring steps is at level 0 and is computed while the sampler runs; a measure against
the final image is at level 1 and waits for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from flowprofile.errors import DefinitionError, nearest
from flowprofile.flow.stage import ENDS, Chain, Stage, recipe


@dataclass(frozen=True)
class Graph:
    """Stages in topological order, with what is computed from their edges."""

    stages: Mapping[str, Stage]
    """By name; every stage comes after what it needs."""
    keys: Mapping[str, str]
    """The recipe key of each."""
    levels: Mapping[str, int]
    base: Mapping[str, Any]
    """What every chain in it depends on: model identity, sampler, schedule, noise scheme."""

    def path(self, name: str) -> str:
        """The stage's group as it is named on disk: with the first ten digits of its key."""
        return f"{self.stages[name].group}@{self.keys[name][:10]}"

    def stored(self) -> tuple[Stage, ...]:
        """The stages whose results are kept."""
        return tuple(stage for stage in self.stages.values() if stage.stored)

    def root(self, name: str) -> str:
        """The name of the chain from which a stage's blocks come in the end."""
        stage = self.stages[name]
        if stage.chain is not None:
            return name
        return self.root(_walked(stage)[0])

    def chain(self, name: str) -> Chain:
        """The chain from which a stage's blocks come in the end."""
        chain = self.stages[self.root(name)].chain
        assert chain is not None
        return chain

    def inheritable(self, name: str) -> bool:
        """Whether equal states make its results equal: nothing it reads comes from the end or from other cases."""
        stage = self.stages[name]
        return stage.scope == "all" and all(
            need.view == "start" or (need.view == "block" and self.inheritable(need.stage))
            for need in stage.needs
        )

    @property
    def crossed(self) -> bool:
        """Whether some case reads another seed's."""
        return any(stage.chain is not None and stage.chain.crosses for stage in self.stages.values())

    @property
    def linked(self) -> bool:
        """Whether some stage compares labels, so that they must be computed side by side."""
        return any(need.view == "labels" for stage in self.stages.values() for need in stage.needs)


def build(stages: Iterable[Stage], base: Mapping[str, Any]) -> Graph:
    """Order the stages and compute their keys; a missing or circular need is refused."""
    named = {stage.name: stage for stage in stages}
    order = ordered({name: [need.stage for need in stage.needs] for name, stage in named.items()})
    keys: dict[str, str] = {}
    levels: dict[str, int] = {}
    for name in order:
        stage = named[name]
        keys[name] = recipe(stage, keys, base)
        waits = [levels[need.stage] + (need.view in (*ENDS, "labels")) for need in stage.needs]
        levels[name] = max(waits, default=0)
    graph = Graph({name: named[name] for name in order}, keys, levels, dict(base))
    for name in order:
        _one_chain(graph, name)
    return graph


def ordered(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The names, each after everything it needs."""
    for name, wanted in needs.items():
        for other in wanted:
            if other not in needs:
                raise DefinitionError(
                    f"Stage {name!r} needs {other!r}, which is not in the pipeline.",
                    consequence="There would be nothing to compute it from.",
                    remedy=f"add the stage or correct `needs` ({nearest(other, [n for n in needs if n != name])})",
                )
    try:
        return tuple(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise DefinitionError(
            f"The stages need each other in a circle: {' -> '.join(error.args[1])}.",
            consequence="None of them could ever be computed.",
            remedy="remove one of these needs",
        ) from None


def _one_chain(graph: Graph, name: str) -> None:
    stage = graph.stages[name]
    roots = {graph.root(other) for other in _walked(stage)}
    if stage.chain is None and len(roots) != 1:
        raise DefinitionError(
            f"Stage {name!r} reads blocks of {len(roots)} chains: {', '.join(sorted(roots)) or 'none'}.",
            consequence="Without exactly one chain there are no common steps to compute it at.",
            remedy='give it needs that lead to one chain, for instance needs = ["trajectory"]',
        )


def _walked(stage: Stage) -> list[str]:
    """The stages whose results it reads step by step."""
    return [need.stage for need in stage.needs if need.view not in ENDS]
