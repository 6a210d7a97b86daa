"""Demands of cases that have to do with each other.

Cases that read each other's results are planned together: what one wants of another becomes a demand on that one,
so the cases with interventions are asked first and their clean twins, who answer, afterwards. Equal situations are
worked out once, however many seeds are in them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flowprofile.cases import Case
from flowprofile.errors import DefinitionError
from flowprofile.flow.demand import TWIN, Demand, Known, Mask, demand, grid_mask, positions
from flowprofile.flow.graph import Graph
from flowprofile.flow.kin import Kin
from flowprofile.flow.stage import Stage

Presence = Callable[[Stage, Sequence[Case]], Mask]
"""Flags (case, state of the grid) of a stage's cells that are in the store, or that it is not made of."""


class Survey:
    """Looks at one household of cases after the other."""

    def __init__(self, graph: Graph, present: Presence) -> None:
        self.graph, self.present = graph, present
        self.cells = dict.fromkeys((stage.name for stage in graph.stored()), 0)
        """Missing cells seen so far, by stage."""
        self._known: dict[object, Demand] = {}
        self._kin = next(
            (stage.chain.kin for stage in graph.stages.values() if stage.chain is not None), lambda case: None
        )
        self._asked = {name: positions(graph, name) for name in graph.stages}

    def demands(self, cases: Sequence[Case]) -> dict[Case, Demand]:
        """What each of the cases needs; all that they read of others must be among them."""
        masks = {stage.name: self.present(stage, cases) for stage in self.graph.stored()}
        held = {case: {name: mask[row] for name, mask in masks.items()} for row, case in enumerate(cases)}
        for name, mask in masks.items():
            self.cells[name] += int((self._asked[name] & ~mask).sum())
        across = self._across(held)
        wanted: dict[Case, dict[str, Mask]] = defaultdict(dict)
        found = {}
        for case in sorted(cases, key=lambda case: case.clean):
            kin = None if case.clean else self._kin(case)
            found[case] = self._demand(held[case], kin, wanted[case], across.get(_siblings(case), {}))
            for (number, name), mask in found[case].wants.items():
                assert kin is not None
                other = kin.twin if number == TWIN else kin.sources[number].case
                self._hold(wanted, other, name, mask, held)
        return {case: found[case] for case in cases}

    def _demand(
        self,
        present: Mapping[str, Mask],
        kin: Kin | None,
        wanted: Mapping[str, Mask],
        across: Mapping[str, Mask],
    ) -> Demand:
        relation = None if kin is None else (kin.shared, tuple((s.stage, s.pairs) for s in kin.sources))
        signature = (relation, _bytes(present), _bytes(wanted), _bytes(across))
        if signature not in self._known:
            self._known[signature] = demand(self.graph, Known(present, kin, wanted, across))
        return self._known[signature]

    def _hold(
        self,
        wanted: dict[Case, dict[str, Mask]],
        other: Case,
        name: str,
        mask: Mask,
        held: Mapping[Case, Mapping[str, Mask]],
    ) -> None:
        """Ask another case to keep what it would not store anyway."""
        if other not in held:
            raise DefinitionError(
                f"An intervention reads results of {other}, which is not in the sweep.",
                consequence="There would be no run to take them from.",
                remedy="add its seed and label to [cases]",
            )
        if self.graph.stages[name].stored:
            mask = mask & ~(held[other][name] | self._asked[name])
        if mask.any():
            known = wanted[other].setdefault(name, grid_mask(self.graph, name))
            wanted[other][name] = known | mask

    def _across(self, held: Mapping[Case, Mapping[str, Mask]]) -> dict[object, dict[str, Mask]]:
        """Per seed and intervention: where some label lacks a stage that compares labels."""
        names = [
            name
            for name, stage in self.graph.stages.items()
            if stage.stored and any(need.view == "labels" for need in stage.needs)
        ]
        found: dict[object, dict[str, Mask]] = {}
        for case, present in held.items() if names else ():
            lacking = found.setdefault(_siblings(case), {})
            for name in names:
                lacks = self._asked[name] & ~present[name]
                lacking[name] = lacks | lacking.get(name, np.zeros_like(lacks))
        return found


def _siblings(case: Case) -> object:
    return case.intervention, case.seed


def _bytes(masks: Mapping[str, Mask]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, mask.tobytes()) for name, mask in masks.items())
