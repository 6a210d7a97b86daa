"""Names as people give them: each works through store, command line, report and app, or is refused in words."""

import json
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from catalogue import times
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept_stores import FAST
from torch import nn

import flowprofile as fp
from flowprofile import intervening, running
from flowprofile.app.catalogue import catalogue as shown
from flowprofile.app.profiles import Profiles
from flowprofile.cli.main import group
from flowprofile.errors import FlowProfileError
from flowprofile.store.places import LocalPlace
from flowprofile.store.verify import verify
from pipelines import pipeline

NAMES = (
    "plain", "Plain", "PLAIN", "ünïcödé", "u\u0308", "ü", "שלום", "\u202egnp.exe", "日本", "😀", "a b", " a", "a ", "a\nb", "a\r\n", "a\tb",
    "-rf", "--help", "-", "--", "a" * 255, "a" * 256, "é" * 127, "é" * 128, "'", '"', "`id`", "$HOME", "$(id)", ";ls", "&", "|", "a\\b",
    "<script>alert(1)</script>", "*", "?", "[a]", "{a}", "%2e%2e", "%00", "~", "~root", "#", "a:b", "a@b", "a=b", "a+b", "a,b", "a~b",
    "con", "NUL", "nan", "None", "0", "1e9", "\x7f", "\x1b[31m", "\ufeff", "\u200b", "\ud7ff", ".hidden", "...", "a.", "profile.zarr", "ledger",
    "seed", "label", "time", "intervention", "title", "kind", "trajectory", "zarr.json", "c", "status", "x_t",
)  # fmt: skip


def _teaches(error):
    """A refusal says what to do."""
    assert error.remedy, str(error)


class Named(nn.Module):
    """A network of one layer for each name; layer n multiplies by n + 2."""

    def __init__(self, names):
        super().__init__()
        self.scales = OrderedDict((name, 2.0 + n) for n, name in enumerate(names))
        for name, scale in self.scales.items():
            layer = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(layer.weight, scale)
            self.add_module(name, layer)

    def forward(self, x, index, label):
        x = torch.tanh(x)
        for name in self.scales:
            self._modules[name](x)
        return x


def _stored(names, url):
    model = fp.denoiser(Named(names), (1, 4, 4), name="named")
    stages = {"activations": {"layers": list(names)}}
    return _profiled(model, [0], url, stages)


def _profiled(model, labels, url, stages):
    cases = {"seeds": [0], "labels": labels}
    running.run(
        fp.Pipeline(model=model, sampler={"steps": 2}, cases=cases, stages=stages), into=url, layout=FAST
    )
    return fp.open(url)


def _layers(name, folder, row, twin=False):
    """Store a layer of this name beside one that is called otherwise; count what is silently wrong."""
    row.injected += 1
    url = folder / f"store{row.injected}"
    try:
        tree = _stored(["other", name], url)
    except FlowProfileError as error:
        _teaches(error)
        return "refused"
    row.acknowledged += 1
    wanted = 1.5 * tree["activations/other"]["activation"].values
    found = tree["activations"].children["other" if twin else name]["activation"].values
    row.silent += not twin and not np.array_equal(found, wanted)
    row.unprotected += twin and not np.array_equal(found, wanted)
    assert len(verify(url).findings) == 0
    objects = {
        one["node"] for one in shown(Profiles(str(url)), runs_allowed=False, others={})["runs"][0]["objects"]
    }
    assert f"activations/{name}" in objects
    told = CliRunner().invoke(group, ["show", str(url), "--json"])
    assert told.exit_code == 0, told.output
    assert f"activations/{name}@" in "".join(
        one["name"] for one in json.loads(told.output)["runs"][0]["stages"]
    )
    return "stored"


@pytest.fixture
def odd(tmp_path):
    return tmp_path


def test_layers_of_any_name_are_stored_or_refused_in_words(odd, catalogue):
    usable = [name for name in NAMES if name and "." not in name]
    with catalogue.row("odd name of a layer", "I7") as row:
        became = {name: _layers(name, odd, row) for name in usable}
        assert became["plain"] == became["Plain"] == became["a+b"] == "stored"
    with catalogue.twin("odd name of a layer", "I7") as row:
        _layers("Plain", odd, row, twin=True)
        row.injected, row.acknowledged = row.injected - 1, row.acknowledged - 1


def test_layers_that_differ_in_case_alone_are_two(tmp_path):
    tree = _stored(["conv", "Conv", "CONV"], tmp_path / "store")
    values = [tree["activations"].children[name]["activation"].values for name in ("conv", "Conv", "CONV")]
    assert np.array_equal(values[1], 1.5 * values[0])
    assert np.array_equal(values[2], 2 * values[0])


def test_stores_of_any_name_work_or_are_refused_in_words(tmp_path, catalogue, monkeypatch):
    monkeypatch.chdir(tmp_path)
    definition = pipeline(seeds="0:1", labels=(0,), steps=2, trajectory={})
    with catalogue.row("odd name of a store", "I7") as row:
        for number, name in enumerate(dict.fromkeys(NAMES)):
            row.injected += 1
            try:
                running.run(definition, into=name, layout=FAST)
            except FlowProfileError as error:
                _teaches(error)
                continue
            row.acknowledged += 1
            there = fp.open(name)["trajectory"]["status"].values
            row.lost += not (there == 2).all()
            drawn = [["figures", "--into", "drawn"]] if number % times(12, 1) == 0 else []
            for command in (["status"], ["verify"], ["show", "--json"], *drawn):
                told = CliRunner().invoke(group, [*command, "--", name])
                assert told.exit_code == 0, (name, command, told.output)
            assert shown(Profiles(name), runs_allowed=False, others={})["store"].endswith(name.rstrip("/"))
        row.lost += len(_folders(tmp_path)) != row.acknowledged


def _taken(folder):
    """Names that lead to what is somebody else's: a home, a file, a folder of data that is called like a store's."""
    theirs = {"home/notes": "~", "file": "file", "here": ".", "data/profile.zarr/zarr.json": "data", "data/ledger/a": "data/.",
              "deep/x": "deep/../deep", "odd name /x": "odd name "}  # fmt: skip
    for path in theirs:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("somebody else's")
    return theirs


def _harmed(folder, theirs):
    """How much of it is changed, and of stores how many are there."""
    kept = sum((folder / path).read_text() == "somebody else's" for path in theirs)
    return len(theirs) - kept + len(list(folder.rglob("format.json")))


def test_a_name_that_leads_to_what_is_somebody_elses_is_refused(tmp_path, catalogue, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    theirs = _taken(tmp_path)
    definition = pipeline(seeds="0:1", labels=(0,), steps=2, trajectory={})
    with catalogue.row("odd name of a store", "I7") as row:
        for name in theirs.values():
            with pytest.raises(FlowProfileError) as refused:
                running.run(definition, into=name, layout=FAST)
            _teaches(refused.value)
            row.injected, row.acknowledged = row.injected + 1, row.acknowledged + 1
        row.lost += _harmed(tmp_path, theirs)
    monkeypatch.setattr(LocalPlace, "exists", lambda place: False)
    with catalogue.twin("odd name of a store", "I7") as row:
        for name in theirs.values():
            with suppress(FlowProfileError):
                running.run(definition, into=name, layout=FAST)
        row.unprotected += _harmed(tmp_path, theirs)


def _folders(root):
    """Every store there is below a folder."""
    return [
        Path(found) for found, names, _ in os.walk(root) if "profile.zarr" in names and Path(found) != root
    ]


STEPS = (667, 500, 333)
"""States at which the switches of a definition are made: each an intervention of its own."""


def _titled(titles):
    """A definition of one switch for each title."""
    tables = {title: {"kind": "switch", "at": at, "to": 1} for title, at in zip(titles, STEPS, strict=False)}
    definition = pipeline(seeds="0:1", labels=(0,), steps=6, trajectory={})
    return type(definition).model_validate({**definition.model_dump(), "interventions": tables})


def _mistaken(url, titles):
    """How many titles are not there, or mean something else than what they were given to."""
    tree = fp.open(url)
    steps = dict(
        zip(tree.coords["title"].values.tolist(), tree.coords["switch_step"].values.tolist(), strict=True)
    )
    wrong = abs(len(tree.coords["title"]) - len(titles) - 1)
    for title, at in zip(titles, STEPS, strict=False):
        found = tree.profile.sel(intervention=[title]).coords["switch_step"] if steps.get(title) == at else ()
        wrong += at not in np.ravel(found)
    return wrong


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=times(5, 100))
@given(
    titles=st.lists(
        st.one_of(st.sampled_from(NAMES), st.text(min_size=1, max_size=40)),
        min_size=1,
        max_size=3,
        unique=True,
    )
)
def test_titles_come_back_as_they_were_given(tmp_path_factory, catalogue, titles):
    url = tmp_path_factory.mktemp("titles") / "store"
    with catalogue.row("odd title of an intervention", "I7") as row:
        row.injected += len(titles)
        try:
            running.run(_titled(titles), into=url, layout=FAST)
        except FlowProfileError as error:
            _teaches(error)
            return
        row.acknowledged += len(titles)
        row.silent += _mistaken(url, titles)
        shown(Profiles(str(url)), runs_allowed=False, others={})


UNFINDABLE = ("none", "", "a\0", "\0", "switch@500->1")
"""The clean run's, nobody's, two that a store would cut short, and the name of the one beside it."""


def test_a_title_that_would_mean_something_else_is_refused(tmp_path, catalogue, monkeypatch):
    with catalogue.row("odd title of an intervention", "I7") as row:
        for title in UNFINDABLE:
            with pytest.raises(FlowProfileError) as refused:
                running.run(_titled([title, "other"]), into=tmp_path / "store", layout=FAST)
            _teaches(refused.value)
            row.injected += 1
    monkeypatch.setattr(intervening, "findable", lambda title, place: None)
    with catalogue.twin("odd title of an intervention", "I7") as row:
        for number, title in enumerate(UNFINDABLE[:-1]):
            url = tmp_path / f"store{number}"
            running.run(_titled([title, "other"]), into=url, layout=FAST)
            row.unprotected += _mistaken(url, [title, "other"]) > 0


def test_attributes_of_any_name_select_what_they_name(tmp_path, catalogue):
    with catalogue.row("odd name of an attribute", "I7") as row:
        for name in dict.fromkeys(NAMES):
            row.injected += 1
            url = tmp_path / f"store{row.injected}"
            try:
                model = fp.denoiser(Named(["layer"]), (1, 4, 4), attributes=("first", name))
                tree = _profiled(model, [[name]], url, {"trajectory": {}}).profile.sel(label=[name])
            except FlowProfileError as error:
                _teaches(error)
                continue
            row.acknowledged += 1
            row.silent += np.ravel(tree["trajectory"].label.values).tolist() != [1]
            row.silent += not np.isfinite(tree["trajectory"]["x_t"].values).all()

    with catalogue.twin("odd name of an attribute", "I7") as row, pytest.MonkeyPatch.context() as patch:
        patch.setattr("flowprofile.store.growth._told_apart", lambda run: None)
        model = fp.denoiser(Named(["layer"]), (1, 4, 4), attributes=("first", "trajectory"))
        with pytest.raises(KeyError):  # a store that nobody can open
            _profiled(model, [1], tmp_path / "unread", {"trajectory": {}})
        row.unprotected += 1
