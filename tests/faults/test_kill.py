"""kill -9 of a run, of a worker, of the coordinator, and of both, in every phase: what was acknowledged stays, and the
same command ends in the same bytes."""

from collections import Counter

from catalogue import times
from killed_runs import kills

FAULTS = {
    "alone": "kill -9 of a run",
    "worker": "kill -9 of a worker",
    "coordinator": "kill -9 of the coordinator",
    "both": "kill -9 of both",
}
PHASES = {
    "alone": {"growth", "metadata", "sampling", "writing", "receipt"},
    "worker": {"sampling", "writing", "receipt"},
    "coordinator": {"growth", "metadata", "sampling", "writing", "receipt"},
    "both": {"sampling", "writing", "receipt"},
}
"""Growth and its metadata are the coordinator's, before there is any worker."""


def test_kills(catalogue, tmp_path):
    """The twins write in place, and are killed in the middle of a receipt or of the root document."""
    found = kills(
        tmp_path,
        batch=2,
        per_phase=times(0, 12),
        per_who=times(1, 12),
        durability=times("none", "fsync"),
    )
    died = Counter((row["who"], row["phase"]) for row in found if row["died"] and not row["torn"])
    assert {who: {phase for killed, phase in died if killed == who} for who in FAULTS} == PHASES
    assert died.total() >= times(20, 120)
    for who, fault in FAULTS.items():
        ours = [row for row in found if row["who"] == who and not row["torn"]]
        with catalogue.row(fault, "I1, I4") as row:
            row.injected += sum(each["died"] for each in ours)
            row.seconds += sum(each["seconds"] for each in ours)
            row.acknowledged += sum(each["acknowledged"] for each in ours)
            row.lost += sum(len(each["lost"]) + (not each["same"]) for each in ours)
        assert [each for each in ours if not each["same"] or each["error"]] == []
        with catalogue.twin(fault, "I1, I4") as row:
            torn = [each for each in found if each["who"] == who and each["torn"]]
            row.unprotected += sum(each["died"] and not each["same"] for each in torn)
