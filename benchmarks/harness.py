"""How two ways of doing one thing are compared on a machine that others use too.

Absolute times mean nothing there, and neither do two blocks of runs one after the other. So the two are run in
turn, in pairs whose order alternates, in CPU time of one thread; the figure is the median of the pairs' ratios,
with the interval that holds it in 95 of 100 such runs.
"""

import json
import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    """What was compared with what."""
    measured: float
    """The median ratio, or a plain figure."""
    low: float
    """Lower end of the median's 95 % interval."""
    high: float
    """Upper end of it."""
    target: str
    """The target as it is written, for instance '<= 2x'; empty where there is none."""
    note: str = ""
    """What a reader must know besides."""

    @property
    def met(self) -> bool | None:
        """Whether the measured figure is on the right side of the target; None without one."""
        if not self.target:
            return None
        relation, number = self.target.split()[:2]
        limit = float(number.rstrip("x%"))
        return self.measured <= limit if relation == "<=" else self.measured >= limit

    def __str__(self) -> str:
        interval = f" [{self.low:.3g}, {self.high:.3g}]" if self.high > self.low else ""
        mark = {True: "met", False: "NOT met", None: "no target"}[self.met]
        goal = f"target {self.target}, {mark}" if self.target else mark
        unit = "x" if self.high > self.low or self.target.endswith("x") else ""
        return f"{self.name}: {self.measured:.3g}{unit}{interval} ({goal})" + (
            f"  {self.note}" if self.note else ""
        )


def compare(
    name: str,
    ours: Work,
    theirs: Work,
    *,
    target: str,
    tiny: bool,
    pairs: int = 21,
    note: str = "",
    cost: bool | None = None,
) -> Row:
    """The ratio that the target speaks of: ours / theirs for '<=' (a cost), theirs / ours for '>=' (a speed-up).

    Without a target `cost` says which.
    """
    if tiny:
        pairs, least = 1, 0.0
    else:
        least = 0.02
    calls = [_calls(work, least) for work in (ours, theirs)]
    ratios = []
    for k in range(pairs):
        first = _seconds(ours, calls[0]) if k % 2 else None
        other = _seconds(theirs, calls[1])
        mine = first if first is not None else _seconds(ours, calls[0])
        costly = target.startswith("<=") if cost is None else cost
        ratios.append(mine / other if costly else other / mine)
    return summary(name, ratios, target=target, note=note)


def summary(name: str, values: Sequence[float], *, target: str, note: str = "") -> Row:
    """Median and its interval from order statistics, which assume nothing about the values' distribution."""
    ordered = sorted(values)
    n = len(ordered)
    reach = math.ceil(0.98 * math.sqrt(n))
    low, high = ordered[max(0, n // 2 - reach)], ordered[min(n - 1, (n - 1) // 2 + reach)]
    return Row(name, statistics.median(ordered), low, high, target, note)


def exact(name: str, value: float, *, target: str, note: str = "") -> Row:
    """A figure that is counted, not timed."""
    return Row(name, value, value, value, target, note)


def peak() -> int:
    """Most bytes this process has had in memory; `ru_maxrss` would begin with its parent's, which it inherits."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def as_json(rows: Sequence[Row]) -> str:
    """The rows as a JSON list, for a machine to keep."""
    return json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=2)


def _calls(work: Work, least: float) -> int:
    """How many calls make one measurement at least `least` seconds long; warms up as it looks."""
    calls = 1
    while _seconds(work, calls) * calls < least and calls < 10**6:
        calls *= 2
    return calls


def _seconds(work: Work, calls: int) -> float:
    """CPU seconds of one call, averaged over `calls`."""
    start = time.process_time_ns()
    for _ in range(calls):
        work()
    return max(time.process_time_ns() - start, 1) / calls / 1e9
