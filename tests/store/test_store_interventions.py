"""Interventions in a store: what is known beside their names, and stages that are asked for some cases only."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.testing as npt
import pytest
import xarray as xr

from flowprofile.cases import Case, Sweep
from flowprofile.errors import StoreError
from flowprofile.opening import open as open_profile
from flowprofile.store.declarations import RunDeclaration
from flowprofile.store.record import record_from
from flowprofile.store.snapshot import snapshot
from flowprofile.store.verify import repair, verify

SWITCH, ZERO = "switch@6->1", "zero mid.fn[3]"
BESIDE = {
    "intervention_kind": {SWITCH: "switch", ZERO: "zero"},
    "switch_step": {SWITCH: 6, ZERO: -1},
    "factor": {SWITCH: -1.0, ZERO: 0.5},
}


def told(run: RunDeclaration, beside: Mapping[str, Mapping[str, Any]] = BESIDE) -> RunDeclaration:
    return replace(run, intervention_coords=beside)


def only(*names: str) -> dict[str, dict[str, Any]]:
    return {key: {name: values[name] for name in names} for key, values in BESIDE.items()}


def test_coordinates_of_interventions_grow_and_every_reader_sees_them(specimen, url) -> None:
    house = specimen.House(url)
    house.request(Sweep((0, 1), (0,)), [12, 6])
    house.run = told(specimen.RUN, only(SWITCH))
    house.request(Sweep((0, 1), (0,), ("none", SWITCH)), [12, 6])
    house.run = told(specimen.RUN, only(ZERO))
    house.request(Sweep((0, 1), (0,), (ZERO,)), [12, 6])
    with house.open() as store:
        plain = xr.open_datatree(store.place.zarr(), engine="zarr", chunks=None)[specimen.RUN.folder]
    for data in (open_profile(url), open_profile(url)["trajectory"], plain):
        assert data.coords["intervention"].values.tolist() == ["none", SWITCH, ZERO]
        assert data.coords["intervention_kind"].dims == ("intervention",)
        assert data.coords["intervention_kind"].values.tolist() == ["", "switch", "zero"]
        assert data.coords["switch_step"].values.tolist() == [-1, 6, -1]
        assert data.coords["factor"].values.tolist() == [-1, -1, 0.5]
        assert data.coords["factor"].dtype == "float64"
        assert data.coords["switch_step"].dtype == "int64"
    assert verify(url).findings == ()


def test_more_interventions_than_a_coordinate_chunk_holds(specimen, house) -> None:
    names = tuple(f"switch@{n}->1" for n in range(150))
    for n in (1, 64, 65, 150):
        house.run = told(specimen.RUN, {"intervention_kind": {name: name[7:] for name in names[:n]}})
        house.request(Sweep((0,), (0,), names[:n]), [12], fill=False)
    assert open_profile(house.url)["intervention_kind"].values.tolist() == [name[7:] for name in names]
    assert verify(house.url).findings == ()


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"switch_step": {SWITCH: 5}}, "stored as 6, asked for is 5"),
        ({"switch_step": {SWITCH: 6, ZERO: 0.5}}, "asked for is 0.5"),
        ({"intervention_kind": {ZERO: 3}}, "asked for is 3"),
        ({"intervention_kind": {}}, "no value for the interventions"),
        ({"title": {SWITCH: "a", ZERO: 1}}, "holds"),
        ({"title": {SWITCH: None, ZERO: None}}, "NoneType"),
    ],
)
def test_coordinates_that_would_lie_are_refused(specimen, house, beside, message) -> None:
    house.run = told(specimen.RUN, only(SWITCH))
    house.request(Sweep((0,), (0,), ("none", SWITCH)), [12])
    before = house.contents()
    house.run = told(specimen.RUN, {**only(ZERO), **beside})
    with pytest.raises(StoreError, match=message):
        house.request(Sweep((0,), (0,), (SWITCH, ZERO)), [12])
    assert house.contents() == before


@pytest.mark.parametrize("name", ["layer", "seed", "smile"])
def test_a_coordinate_named_like_an_axis_is_refused(specimen, name) -> None:
    with pytest.raises(StoreError, match=f"intervention_{name}"):
        told(specimen.RUN, {name: {SWITCH: "x"}})


def test_a_coordinate_that_came_later_is_blank_before(specimen, house) -> None:
    house.run = told(specimen.RUN, only(SWITCH))
    house.request(Sweep((0,), (0,), (SWITCH,)), [12])
    house.run = told(specimen.RUN, {**only(ZERO), "title": {ZERO: "off"}})
    house.request(Sweep((0,), (0,), (ZERO,)), [12])
    assert open_profile(house.url)["title"].values.tolist() == ["", "off"]


def test_a_store_without_interventions_is_written_as_ever(specimen, house) -> None:
    """The layout record of such a store says nothing of them, and one that never heard of them opens."""
    house.run = told(specimen.RUN)
    house.request(Sweep((0,), (0,)), [12])
    layouts = list(Path(house.url).glob("ledger/layouts/*.json"))
    bodies = [json.loads(path.read_text())["body"] for path in layouts]
    assert all("intervention_coords" not in run for b in bodies for run in b["record"]["runs"].values())
    with house.open() as store:
        record = snapshot(store.place).record
    assert record_from(json.loads(record.text())) == record


def test_damaged_coordinates_of_interventions_are_seen_and_mended(specimen, house) -> None:
    house.run = told(specimen.RUN)
    house.request(Sweep((0,), (0,), (SWITCH, ZERO)), [12])
    chunk = next(Path(house.url).glob("profile.zarr/*/switch_step/c.0"))
    whole = chunk.read_bytes()
    chunk.write_bytes(b"\x07" + whole[1:])
    with pytest.raises(StoreError, match="coordinate values"):
        open_profile(house.url)
    assert not verify(house.url).sound
    assert repair(house.url).after.findings == ()
    assert chunk.read_bytes() == whole


def sparse(specimen, house, cases: Sweep, sweep: Sweep, *, fill: bool = True) -> None:
    """Ask for the trajectory of all cases, and for the measure of some."""
    with house.open() as store:
        first, second, _ = specimen.stages([12, 6])
        store.prepare(specimen.RUN, sweep, [first, replace(second, cases=cases)])
        if fill:
            wanted = store.positions(specimen.RUN.folder, specimen.MEASURE)
            mask = np.zeros(store.present(specimen.RUN.folder, specimen.MEASURE).shape, bool)
            for case in cases:
                mask[tuple(wanted[a][getattr(case, a)] for a in ("intervention", "label", "seed"))] = True
            for region in store.cut(specimen.RUN.folder, specimen.MEASURE, mask):
                store.write(region, specimen.block(store, region))


def test_a_stage_is_asked_for_some_cases(specimen, house) -> None:
    """A switch to label 1 is none for label 1, and status says that nobody asked."""
    sweep = Sweep((0, 1), (0, 1, 2), ("none", SWITCH, ZERO))
    cases = Sweep((0, 1), (0, 1, 2), ("none", SWITCH), ((SWITCH, (0, 2)),))
    sparse(specimen, house, cases, sweep, fill=False)
    tree = open_profile(house.url)
    status = tree["measures/step_ssim"]["status"]
    asked = {Case(s, n, i) for i in sweep.interventions for n in sweep.labels for s in sweep.seeds}
    for case in asked:
        cells = status.sel(seed=case.seed, label=case.label, intervention=case.intervention)
        npt.assert_array_equal(cells, 1 if case in set(cases) else 0)
    assert (tree["trajectory"]["status"] == 1).all()
    sparse(specimen, house, cases, sweep)
    counts = open_profile(house.url).profile.coverage().sel(node="measures/step_ssim")
    assert [int(counts[k]) for k in ("present", "missing", "not_requested")] == [20, 0, 16]
    value = open_profile(house.url)["measures/step_ssim"]["value"]
    assert value.sel(seed=1, label=2, intervention=SWITCH, time=6) == specimen.value(Case(1, 2, SWITCH), 6)


def test_asking_again_for_the_same_part_records_nothing_new(specimen, house) -> None:
    sweep = Sweep((0, 1), (0, 1, 2), ("none", SWITCH))
    part = replace(sweep, restricted=((SWITCH, (0, 2)),))
    sparse(specimen, house, part, sweep)
    before = house.contents()
    sparse(specimen, house, part, sweep)
    sparse(specimen, house, Sweep((1,), (2,), (SWITCH,)), sweep, fill=False)
    assert house.contents() == before
    with house.open() as store:
        assert len(store.stages(specimen.RUN.folder)[specimen.MEASURE].requests) == 2
    sparse(specimen, house, sweep, sweep, fill=False)
    status = open_profile(house.url)["measures/step_ssim"]["status"]
    assert (status.sel(label=1, intervention=SWITCH) == 1).all()


def test_a_stage_cannot_be_asked_for_what_the_run_does_not_have(specimen, house) -> None:
    with pytest.raises(StoreError, match="seed 7, which the run does not have"):
        sparse(specimen, house, Sweep((0, 7), (0,)), Sweep((0,), (0,)))
