"""When memory runs out: fewer states in flight, and never another batch, which would have other bits.

A plan is refused beforehand where it needs more than there is; but others may take memory while it is carried out, and
a network may need more than its weights tell. What a task has committed by then stays, and the rest is begun again with
a smaller block. How many rows carry pixels backwards is in a volume's numerics, so that number does not shrink either.
"""

from typing import Final

from flowprofile.errors import BudgetError

SHRINKS: Final = 4
"""By how much there are fewer states in flight after each time."""
_WORDS: Final = ("out of memory", "not enough memory", "allocate memory")
"""What torch says, which raises a RuntimeError on a CPU."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory: Python's and NumPy's, or torch's on any device."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def unaffordable(cases: int, first: object, told: str) -> BudgetError:
    """What is said where not even one state has room."""
    return BudgetError(
        f"Memory ran out with a single state in flight, for {cases} cases from {first} on.",
        consequence="A smaller batch would have other bits, so these cases are set aside; what was committed stays.",
        remedy="free memory or take a machine with more, ask for fewer layers or pixels at a time, or begin a run of its "
        "own with a smaller numerics.batch",
        evidence=told,
    )
