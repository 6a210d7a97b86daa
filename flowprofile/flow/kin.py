"""What one sample's chain has to do with another's.

A case with an intervention is its clean twin until the intervention begins: above that state they are one
computation, and the states are shared, not sampled again. From then on its steps may need results of other cases:
the state of the donor whose activation is patched in, or the channel that was the strongest in the clean run.
"""

from dataclasses import dataclass

from flowprofile.cases import Case


@dataclass(frozen=True)
class Source:
    """Results of another case that steps of this one read."""

    case: Case
    stage: str
    pairs: tuple[tuple[int, int], ...]
    """(state stepped into, state whose result is read), descending."""

    def wanted(self, times: frozenset[int]) -> tuple[int, ...]:
        """The states read by the steps into `times`, descending, each once."""
        return tuple(dict.fromkeys(read for into, read in self.pairs if into in times))


@dataclass(frozen=True)
class Kin:
    """The relations of one case."""

    twin: Case
    """The case whose states it shares at the beginning."""
    shared: int
    """How many states of the grid, from noise on, are the twin's."""
    sources: tuple[Source, ...] = ()
