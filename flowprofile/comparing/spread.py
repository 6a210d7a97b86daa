"""A comparison by several workers: each reads a stretch of seeds and hands back tallies, nothing else.

Tallies of any stretches add up along the tree that the seeds' numbers fix, so the result has the same bits for every
number of workers, every width and every order in which they answer.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from itertools import groupby
from typing import Final

from flowprofile import clusters
from flowprofile.comparing.tallying import Forests
from flowprofile.errors import ClusterError, FlowProfileError

WORK: Final = 512 * 2**20
"""Bytes that a task reads and works on: about a second's work."""
TRIES: Final = 3
"""How often a stretch is given out before it is given up: a worker may be lost for reasons of its own."""

Part = tuple[int, ...]
Tallying = Callable[[Part], Forests]


def spread(tallying: Tallying, seeds: Sequence[int], cluster: str, *, weight: int) -> Forests:
    """The forests of all seeds.

    Parameters
    ----------
    tallying
        Gives the forests of some seeds; it is sent to the workers, so it must be importable there.
    cluster
        ``processes:N``, ``local:N``, a scheduler's address, or a name.
    weight
        Bytes that one seed takes.

    Raises
    ------
    ClusterError
        If a stretch of seeds was lost again and again.
    """
    waiting = iter(parts(seeds, WORK // max(1, weight)))
    found = Forests()
    with clusters.pool(cluster) as (workers, count):
        running: dict[Future[Forests], tuple[Part, int]] = {}
        while True:
            while len(running) < 2 * count and (part := next(waiting, None)) is not None:
                running[workers.submit(tallying, part)] = part, 1
            if not running:
                return found
            for future in wait(list(running), return_when=FIRST_COMPLETED).done:
                part, tries = running.pop(future)
                answer = _answer(future, part, tries)
                if answer is None:
                    running[_again(workers, tallying, part)] = part, tries + 1
                else:
                    found = found + answer


def parts(seeds: Sequence[int], width: int) -> Iterator[Part]:
    """Stretches of seeds that lie in one complete subtree of about this many, in ascending order."""
    level = max(0, width).bit_length() - 1 if width > 1 else 0
    for _, block in groupby(sorted(seeds), key=lambda seed: seed >> level):
        yield tuple(block)


def _again(workers: Executor, tallying: Tallying, part: Part) -> Future[Forests]:
    try:
        return workers.submit(tallying, part)
    except RuntimeError as error:
        raise _lost(part, error) from error


def _answer(future: Future[Forests], part: Part, tries: int) -> Forests | None:
    """What a worker found; None if it was lost and another should try."""
    try:
        return future.result()
    except FlowProfileError:
        raise
    except Exception as error:
        if tries >= TRIES:
            raise _lost(part, error) from error
        return None


def _lost(part: Part, error: Exception) -> ClusterError:
    return ClusterError(
        f"Seeds {part[0]} to {part[-1]} could not be tallied.",
        consequence="Without them the comparison would be of other seeds; nothing was kept.",
        remedy="look at the workers' logs and memory, and give the same command again, or leave cluster out",
        evidence=f"{type(error).__name__}: {error}",
    )
