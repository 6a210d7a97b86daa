"""Names as people give them: each works through store, command line, report and app, or is refused in words.

No twin for names that are refused: without the refusal the system's own error comes, which loses nothing either. The
twin of those that work takes two names for one, and finds one's values under the other's name.
"""

import json
import os
from collections import OrderedDict
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
from flowprofile import running
from flowprofile.app.catalogue import catalogue as shown
from flowprofile.app.profiles import Profiles
from flowprofile.cli.main import group
from flowprofile.errors import FlowProfileError
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
        one["node"] for one in shown(Profiles(str(url)), runs_allowed=False, others=[])["runs"][0]["objects"]
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
            assert shown(Profiles(name), runs_allowed=False, others=[])["store"].endswith(name.rstrip("/"))
        row.lost += len(_folders(tmp_path)) != row.acknowledged


def _folders(root):
    """Every store there is below a folder."""
    return [
        Path(found) for found, names, _ in os.walk(root) if "profile.zarr" in names and Path(found) != root
    ]


SWITCH = {"kind": "switch", "at": 1, "to": 1}


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
    tables = {title: {**SWITCH, "at": n + 1} for n, title in enumerate(titles)}
    definition = pipeline(seeds="0:1", labels=(0,), steps=6, trajectory={})
    with catalogue.row("odd title of an intervention", "I7") as row:
        row.injected += len(titles)
        try:
            changed = type(definition).model_validate({**definition.model_dump(), "interventions": tables})
            running.run(changed, into=url, layout=FAST)
        except FlowProfileError as error:
            _teaches(error)
            return
        row.acknowledged += len(titles)
        found = fp.open(url).coords["title"].values.tolist()
        row.silent += sorted(found) != sorted(["none", *titles])
        shown(Profiles(str(url)), runs_allowed=False, others=[])


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
