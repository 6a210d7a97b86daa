"""A writer may die between any two of its steps: what was acknowledged stays, and doing it again ends in the same bytes."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from flowprofile.cases import Sweep
from flowprofile.opening import open as open_profile
from flowprofile.store.phases import Phase
from flowprofile.store.verify import HARMLESS, verify

REQUESTS = (
    (Sweep((0, 1, 2), (0,)), [12, 6, 0]),
    (Sweep((0, 1, 2, 5, 4), (0,)), [12, 9, 6, 3, 0]),
)
"""The second fills up a tile of seeds and a shard of times that the first began."""


class Killed(Exception):
    """The process is gone."""


class Killer:
    """Counts phases and dies at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.heard = at, []

    def __call__(self, phase: Phase) -> None:
        if len(self.heard) == self.at:
            raise Killed(str(phase))
        self.heard.append(phase)


def story(house) -> None:
    for sweep, times in REQUESTS:
        house.request(sweep, times)


def check_visible(specimen, house) -> int:
    """Every cell a reader sees is right or missing, and `status` says which; returns how many are there."""
    tree = open_profile(house.url)
    measure, states = tree["measures/step_ssim"].to_dataset().load(), tree["trajectory"].to_dataset().load()
    seen = 0
    for seed in measure.seed.values.tolist():
        for t in measure.time.values.tolist():
            cell = {"seed": seed, "time": t, "label": 0, "intervention": "none"}
            case = specimen.Case(seed, 0)
            for data, name, truth in (
                (measure, "value", specimen.value(case, t)),
                (states, "x_t", specimen.state(case, t)),
            ):
                got = data[name].sel(cell).values
                if data["status"].sel(cell) == 2:
                    np.testing.assert_array_equal(got, truth)
                    seen += 1
                else:
                    assert np.isnan(got).all()
    return seen


@pytest.fixture(scope="module")
def undisturbed(specimen, tmp_path_factory) -> tuple[dict[str, str], list[Phase]]:
    killer = Killer()
    house = specimen.House(str(tmp_path_factory.mktemp("whole") / "store"), listen=killer)
    story(house)
    return house.contents(), killer.heard


def test_phases_cover_every_kind_of_step(undisturbed) -> None:
    names = {phase.name for phase in undisturbed[1]}
    assert names == {"writing", "receipt", "growth", "metadata"}
    assert {p.detail for p in undisturbed[1] if p.name == "growth"} >= {
        "coordinates",
        "arrays",
        "groups",
        "root",
    }
    assert any(p.detail.startswith("ledger/intents") for p in undisturbed[1])


def test_killed_at_every_phase(specimen, undisturbed, tmp_path) -> None:
    whole, phases = undisturbed
    for at in range(len(phases)):
        house = specimen.House(f"memory://kill-{tmp_path.name}-{at}", listen=Killer(at))
        with pytest.raises(Killed):
            story(house)
        house.listen = Killer()
        grown = any(p.detail == "profile.zarr/zarr.json" for p in phases[:at])
        seen = check_visible(specimen, house) if grown and at % 3 == 0 else None
        for (sweep, times), first in zip(REQUESTS, (True, False), strict=True):
            if first and _second_began(phases, at):
                continue
            house.request(sweep, times)
        assert house.contents() == whole, f"killed at {at}: {phases[at]}"
        if seen is not None:
            assert check_visible(specimen, house) >= seen
        if grown and at % 10 == 0:
            assert verify(house.url).findings == ()


def _second_began(phases: list[Phase], at: int) -> bool:
    return sum(p.detail == "profile.zarr/zarr.json" for p in phases[:at]) > 1


def test_killed_twice_in_a_row(specimen, undisturbed, tmp_path) -> None:
    whole, phases = undisturbed
    for at in range(30, len(phases), 17):
        house = specimen.House(f"memory://twice-{tmp_path.name}-{at}", listen=Killer(at))
        with pytest.raises(Killed):
            story(house)
        for later in (1, 3):
            house.listen = Killer(later)
            try:
                story_from(house, phases, at)
            except Killed:
                if any(p.detail == "profile.zarr/zarr.json" for p in phases[:at]):
                    check_visible(specimen, house)
        house.listen = Killer()
        story_from(house, phases, at)
        assert house.contents() == whole


def story_from(house, phases: list[Phase], at: int) -> None:
    for request in REQUESTS[int(_second_began(phases, at)) :]:
        house.request(*request)


def test_an_overwrite_without_its_intent_would_be_seen(specimen, undisturbed, tmp_path) -> None:
    """Negative twin: lose the journal of an interrupted overwrite, and the shared object reads as damaged."""
    _, phases = undisturbed
    shared = next(
        at
        for at, phase in enumerate(phases)
        if phase.name == "receipt"
        and phases[at - 1].name == "writing"
        and phases[at - 2].detail.startswith("ledger/intents")
    )
    house = specimen.House(f"memory://journal-{tmp_path.name}", listen=Killer(shared))
    with pytest.raises(Killed):
        story(house)
    assert {f.kind for f in verify(house.url).findings} <= {*HARMLESS}
    check_visible(specimen, house)
    with house.open() as store:
        for key in list(store.place.list("ledger/intents")):
            store.place.delete(key)
    assert not verify(house.url).sound
    with pytest.raises(Exception, match=r"not what was acknowledged|disagree"):
        check_visible(specimen, house)


CHILD = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("specimen", sys.argv[1])
specimen = importlib.util.module_from_spec(spec); sys.modules["specimen"] = specimen; spec.loader.exec_module(specimen)
from flowprofile.cases import Sweep
left = int(sys.argv[3])
def listen(phase):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
house = specimen.House(sys.argv[2], listen=listen)
house.layout = specimen.StoreLayout(chunk="2 KiB", shard="6 KiB", small="1 KiB", durability="fsync")
house.request(Sweep((0, 1, 2), (0,)), [12, 6, 0])
house.request(Sweep((0, 1, 2, 5, 4), (0,)), [12, 9, 6, 3, 0])
"""


@pytest.mark.parametrize("at", [10, 45, 70])
def test_kill_9_leaves_a_folder_that_finishes_the_same(specimen, undisturbed, tmp_path, at) -> None:
    whole, phases = undisturbed
    path, root = specimen.__file__, str(tmp_path / "store")
    dead = subprocess.run([sys.executable, "-c", CHILD, path, root, str(at)], check=False)
    assert dead.returncode == -signal.SIGKILL
    house = specimen.House(root)
    story_from(house, phases, at)
    assert house.contents() == whole
    assert verify(root).findings == ()
