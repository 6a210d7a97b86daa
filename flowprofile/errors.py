"""Refusals that teach.

Every error a user can cause says four things: the fact, its consequence, the remedy, and the evidence. The
class decides only the exit code of the command line, so a script can tell a bad argument from a damaged store.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class FlowProfileError(Exception):
    """A refusal: what is wrong, what follows from it, what to do, and what was seen."""

    exit_code: ClassVar[int] = 1
    final: ClassVar[bool] = True
    """Whether trying again would end in the same refusal."""

    def __init__(self, fact: str, *, consequence: str = "", remedy: str = "", evidence: str = "") -> None:
        self.fact = fact
        self.consequence = consequence
        self.remedy = remedy
        self.evidence = evidence
        super().__init__(fact, consequence, remedy, evidence)

    def __str__(self) -> str:
        lines = [self.fact, self.consequence]
        if self.remedy:
            lines.append(f"To mend it: {self.remedy}")
        if self.evidence:
            lines.append(f"Seen: {self.evidence}")
        return "\n".join(line for line in lines if line)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.fact, self.consequence, self.remedy, self.evidence)


def _rebuild(
    kind: type[FlowProfileError], fact: str, consequence: str, remedy: str, evidence: str
) -> FlowProfileError:
    return kind(fact, consequence=consequence, remedy=remedy, evidence=evidence)


class DefinitionError(FlowProfileError):
    """An argument or a definition file asks for something that does not exist or makes no sense."""

    exit_code = 2


class ModelError(FlowProfileError):
    """A checkpoint is not what it says it is, or is of a kind that is never loaded."""

    exit_code = 2


class StoreError(FlowProfileError):
    """A place is not a store of ours, or not one this version can read."""

    exit_code = 3
    final = False


class IntegrityError(StoreError):
    """Bytes in a store are not the bytes that were acknowledged."""


class BudgetError(FlowProfileError):
    """A plan needs more memory or disk than it may take."""

    exit_code = 4


class BusyError(FlowProfileError):
    """Another planner holds the store."""

    exit_code = 5
    final = False


class NonFiniteError(FlowProfileError):
    """A NaN or an infinity appeared in a result; it is named and never stored as a number."""

    exit_code = 6


class ClusterError(FlowProfileError):
    """Workers cannot be had, are equipped differently, or could not carry some tasks out."""

    exit_code = 7


def nearest(name: object, names: Iterable[object]) -> str:
    """Text that lists the names closest to a wrong one, or all of them when none is close and they are few.

    >>> nearest("trajectry", ["trajectory", "ssim"])
    "did you mean 'trajectory'?"
    """
    known = [str(candidate) for candidate in names]
    close = get_close_matches(str(name), known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(candidate) for candidate in close) + "?"
    shown = ", ".join(repr(candidate) for candidate in known[:12])
    return f"known: {shown}" + (f" and {len(known) - 12} more" if len(known) > 12 else "")
