"""A store that is run, killed, spoilt, verified, repaired, grown, thinned and tidied, in any order.

The model is what a store that nothing happened to says of every cell, and which regions were acknowledged. At any time a
cell is that value, or it is missing and says so, or reading it is an error that names it. In the end a rerun makes the
bytes of a store that saw the same requests and no fault.
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from catalogue import CATALOGUE, times
from hypothesis import Phase as Stage
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kept_stores import FAST

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import IntegrityError, StoreError
from flowprofile.flow.events import Committed
from flowprofile.store.ledger import Ledger
from flowprofile.store.phases import Phase
from flowprofile.store.places import LocalPlace
from flowprofile.store.store import Store
from flowprofile.store.verify import repair, verify
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.compact import compact
from flowprofile.upkeep.drop import drop
from flowprofile.upkeep.tidy import gc
from pipelines import pipeline

ROW = ("any order of faults and upkeep", "I1-I4")
SEEDS, KEEPS = (2, 3, 5), ("::4", "::2", "::1")
MEASURES = {"final_mse": {"use": "mse", "between": "final"}, "final_l1": {"use": "l1", "between": "final"}}
NODES = {
    "trajectory": ("x_t",),
    "measures/final_mse": ("value", "null"),
    "measures/final_l1": ("value", "null"),
}


class Killed(BaseException):
    """The process is gone."""


def asked(seeds, labels, keep, measures):
    """The definition of a request."""
    chosen = {name: MEASURES[name] for name in list(MEASURES)[:measures]}
    return pipeline(
        seeds=f"0:{SEEDS[seeds]}",
        labels=tuple(range(labels)),
        steps=20,
        trajectory={"keep": KEEPS[keep]},
        **chosen,
    )


def truth():
    """Every value of the largest request, as a store that nothing happened to has them."""
    folder = Path(tempfile.mkdtemp(prefix="truth-"))
    running.run(asked(2, 2, 2, 2), into=folder / "store", layout=FAST)
    tree = fp.open(folder / "store")
    found = {node: tree[node].to_dataset().load() for node in NODES}
    shutil.rmtree(folder)
    return found


TRUTH = {}


class Machine(RuleBasedStateMachine):
    """One store."""

    def __init__(self):
        super().__init__()
        if not TRUTH:
            TRUTH.update(truth())
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.url = self.folder / "store"
        self.want = [0, 1, 0, 1]
        self.history = []
        """Requests, in the order in which they were finished."""
        self.acknowledged = set()
        """Regions, by group and name."""
        self.damaged = set()
        """Objects that were spoilt since the last repair."""
        self.begun = False
        """Whether a run was cut off, and its request is still to be met."""

    def teardown(self):
        CATALOGUE.rows[ROW[0]].acknowledged += len(self.acknowledged)
        try:
            self.ends_like_a_store_without_faults()
        finally:
            shutil.rmtree(self.folder)

    @initialize()
    def a_first_run(self):
        self.run()

    def run(self, killed=None):
        """Ask for what is wanted; the regions that were acknowledged on the way stay so."""
        left = [killed]

        def listen(event):
            if isinstance(event, Committed):
                self.acknowledged.add((event.group, event.region))
            if isinstance(event, Phase) and left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed

        self.begun = True
        try:
            running.run(asked(*self.want), into=self.url, layout=FAST, listen=listen)
        except IntegrityError:
            assert self.damaged, "an error although nothing was spoilt"
            return
        self.begun = False
        if not self.history or self.history[-1] != self.want:
            self.history.append(list(self.want))

    @rule()
    def runs_again(self):
        self.run()

    @precondition(lambda self: not self.begun and not self.damaged)
    @rule(axis=st.integers(0, 3))
    def grows(self, axis):
        self.want[axis] = min(self.want[axis] + 1, (len(SEEDS) - 1, 2, len(KEEPS) - 1, len(MEASURES))[axis])
        self.run()

    @precondition(lambda self: not self.begun and not self.damaged)
    @rule(axis=st.integers(0, 3), at=st.integers(0, 60))
    def is_killed_while_it_grows(self, axis, at):
        self.want[axis] = min(self.want[axis] + 1, (len(SEEDS) - 1, 2, len(KEEPS) - 1, len(MEASURES))[axis])
        self._killed(at)

    @rule(at=st.integers(0, 40))
    def is_killed_while_it_runs(self, at):
        self._killed(at)

    def _killed(self, at):
        CATALOGUE.rows[ROW[0]].injected += 1
        with suppress(Killed):
            self.run(killed=at)

    def _objects(self):
        """The chunks of arrays that receipts know."""
        return sorted(f for name in ("x_t", "value") for f in self.url.glob(f"profile.zarr/*/**/{name}/c.*"))

    @rule(
        number=st.integers(0, 10**6),
        how=st.sampled_from(["flip", "cut", "delete", "swap", "empty"]),
        at=st.floats(0, 1, allow_subnormal=False),
    )
    def is_spoilt(self, number, how, at):
        objects = self._objects()
        if not objects:
            return
        chosen = objects[number % len(objects)]
        data = bytearray(chosen.read_bytes())
        other = objects[(number + 1) % len(objects)]
        if how == "flip" and data:
            data[int(at * (len(data) - 1))] ^= 0x10
        elif how == "cut":
            data = data[: int(at * len(data))]
        elif how == "swap":
            data = bytearray(other.read_bytes())
        elif how == "empty":
            data = bytearray()
        if how == "delete":
            chosen.unlink()
        elif bytes(data) != chosen.read_bytes():
            chosen.write_bytes(bytes(data))
        else:
            return
        CATALOGUE.rows[ROW[0]].injected += 1
        self.damaged.add(chosen.relative_to(self.url).as_posix())

    @rule()
    def is_verified(self):
        report = verify(self.url)
        if not self.damaged:
            assert report.sound, report.findings
        named = {finding.key for finding in report.findings}
        for key in self.damaged:
            sealed = any(key.endswith(name) for name in self._sealed())
            assert key in named or not sealed or self._restored(key), (key, report.findings)

    def _receipts(self):
        """Every receipt there is."""
        with Store.open(self.url) as store:
            for run, record in store.runs().items():
                for group in record.stages:
                    for region in Ledger(store.place, run, group).regions():
                        yield group, region, store.receipt(region)

    def _sealed(self):
        return {f"{group}/{key}" for group, _, receipt in self._receipts() for key in receipt.objects}

    def _restored(self, key):
        """Whether a spoilt object is what its receipts say again: it was swapped back, or written anew."""
        from flowprofile.store.encoding import digest

        where = self.url / key
        seals = {
            receipt.objects[name].digest
            for group, _, receipt in self._receipts()
            for name in receipt.objects
            if key.endswith(f"{group}/{name}")
        }
        return where.is_file() and digest(where.read_bytes()) in seals

    @rule()
    def is_repaired(self):
        found = repair(self.url)
        assert found.after.findings == (), found.after.findings
        self.damaged.clear()
        self._forgets()

    def _forgets(self):
        """What was taken out on purpose is not acknowledged any more."""
        self.acknowledged &= {(group, region.name) for group, region, _ in self._receipts()}

    @precondition(lambda self: not self.damaged)
    @rule(
        stage=st.sampled_from(["trajectory", "measures/*", "*"]),
        seeds=st.sampled_from([(0,), (1,), (0, 1), None]),
    )
    def is_thinned(self, stage, seeds):
        with Store.open(self.url, layout=FAST) as store:
            drop(store, Cells(stages=(stage,), seeds=seeds))
        self._forgets()

    @precondition(lambda self: not self.damaged)
    @rule()
    def is_tidied(self):
        with Store.open(self.url, layout=FAST) as store:
            gc(store)
        assert {one.kind for one in verify(self.url).findings} <= ({"torn growth"} if self.begun else set())

    @rule()
    def is_compacted(self):
        with Store.open(self.url) as store:
            compact(store)

    @invariant()
    def says_nothing_wrong(self):
        if not (self.url / "profile.zarr" / "zarr.json").is_file():
            return
        there = {(group, region.name) for group, region, _ in self._receipts()}
        assert self.acknowledged <= there, f"lost: {self.acknowledged - there}"
        tree = fp.open(self.url)
        for node, names in NODES.items():
            if node not in tree.groups and f"/{node}" not in tree.groups:
                continue
            try:
                data = tree[node].to_dataset().load()
            except StoreError as error:
                self._names_what_was_spoilt(error)
                continue
            for name in names:
                _right(TRUTH[node][name], data, name)

    def _names_what_was_spoilt(self, error):
        assert self.damaged, f"an error although nothing was spoilt: {error}"
        assert any(Path(key).name in str(error) for key in self.damaged), error

    def ends_like_a_store_without_faults(self):
        """After a repair, where one is needed, the last request is met with the bytes of a store that had none."""
        if self.damaged:
            self.is_repaired()
        self.run()
        other = self.folder / "other"
        for want in self.history:
            running.run(asked(*want), into=other, layout=FAST)
        assert _arrays(self.url) == _arrays(other)
        with Store.open(self.url, layout=FAST) as store:
            gc(store)
        assert verify(self.url).findings == ()
        self.says_nothing_wrong()


def _right(wanted, data, name):
    """Every cell is its one value, or missing; and what says that it is present is."""
    at = {axis: data[axis].values for axis in ("seed", "label", "time")}
    values, expected = data[name].values, wanted.sel(at).transpose(*data[name].dims).values
    present = np.expand_dims(data["status"].values == 2, tuple(range(data["status"].ndim, values.ndim)))
    missing = np.isnan(values) if name == "null" else ~present
    wrong = np.where(missing, ~np.isnan(values), values != expected)
    assert not wrong.any(), f"{wrong.sum()} values of {name} are silently wrong"


def _arrays(url):
    return {
        f.relative_to(url).as_posix(): f.read_bytes()
        for f in (url / "profile.zarr").rglob("*")
        if f.is_file()
    }


HOW = settings(
    max_examples=times(6, 300), stateful_step_count=times(10, 30), deadline=None, derandomize=times(True, False),
    print_blob=True, phases=times([Stage.generate], list(Stage)),
)  # fmt: skip


def test_nothing_is_lost_or_silently_wrong_in_any_order(catalogue):
    with catalogue.row(*ROW):
        run_state_machine_as_test(Machine, settings=HOW)


def _says(words, *steps):
    """Whether the invariant speaks, in a machine that was driven through some steps."""
    machine = Machine()
    try:
        for name, given in (("a_first_run", {}), *steps):
            getattr(machine, name)(**given)
        with pytest.raises(AssertionError, match=words):
            machine.says_nothing_wrong()
    finally:
        shutil.rmtree(machine.folder)


def test_the_machine_finds_a_store_that_checks_no_bytes(catalogue, monkeypatch):
    """Negative twin: whatever a chunk holds is believed."""
    monkeypatch.setattr("flowprofile.store.reading.intact", lambda data, entry: True)
    with catalogue.twin(*ROW) as row:
        for number in range(3):
            _says("silently wrong", ("is_spoilt", {"number": number, "how": "flip", "at": 0.02}))
            row.unprotected += 1


def test_the_machine_finds_a_store_that_forgets_what_it_acknowledged(catalogue, monkeypatch):
    """Negative twin: a receipt is acknowledged and never written."""
    real = LocalPlace.write

    def forgetful(self, key, data, **how):
        if "/receipts/" not in key or "final_mse@" not in key:
            real(self, key, data, **how)

    monkeypatch.setattr(LocalPlace, "write", forgetful)
    with catalogue.twin(*ROW) as row:
        _says("lost")
        row.unprotected += 1
