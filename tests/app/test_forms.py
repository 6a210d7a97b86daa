"""The form has every setting of a definition, says of each what the schema says, and nothing a page may not send."""

import subprocess
import sys

import pytest

from flowprofile import running
from flowprofile.app.forms import form
from flowprofile.definitions import Text, merged, names, pipeline
from flowprofile.definitions.files import find
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.models import zoo
from flowprofile.models.sites import sites
from flowprofile.stages import KINDS, schema

FACES = {
    "model": "faces32",
    "sampler": {"steps": 4},
    "cases": {"seeds": [0], "labels": ["0110"]},
    "stages": {"trajectory": {"keep": "::2"}},
}
SMALL = {
    "model": "mixture16",
    "sampler": {"steps": 10},
    "cases": {"seeds": "0:2", "labels": [0, 1]},
    "stages": {"trajectory": {}},
}


@pytest.fixture
def filled(store):
    running.run(pipeline(SMALL, Text("the test", "")), into=store)
    return store


def fields(group):
    return {field["name"]: field for field in group["fields"]}


def every(value):
    """All fields anywhere in a form."""
    if isinstance(value, list):
        for one in value:
            yield from every(one)
    elif isinstance(value, dict):
        if "kind" in value and "required" in value:
            yield value
        for one in value.values():
            yield from every(one)


def test_every_parameter_of_every_kind_is_a_field_with_its_own_words_and_bounds(filled):
    found = {kind["name"]: kind for kind in form(filled)["stages"]["kinds"]}
    tables = schema()["$defs"]
    assert set(found) == set(KINDS)
    for name, kind in found.items():
        own, shown = tables[f"stage:{name}"]["properties"], fields(kind)
        assert list(shown) == list(own)
        assert kind["help"] == KINDS[name].summary
        for parameter, field in shown.items():
            assert field["help"] == own[parameter].get("description", "")
            assert field["default"] == own[parameter].get("default")
            if field["kind"] == "number" and "minimum" in own[parameter]:
                assert field["minimum"] == own[parameter]["minimum"]


def test_every_setting_of_the_thesis_interface_can_be_entered(filled):
    found = form(filled, model="faces32")
    groups = {group["name"]: fields(group) for group in found["groups"]}
    done = {kind["name"]: fields(kind) for kind in found["interventions"]["kinds"]}
    assert {"model": groups[""]["model"]["kind"], **{n: groups["cases"][n]["kind"] for n in groups["cases"]}} == {
        "model": "choice", "seeds": "seeds", "labels": "labels",
    }  # fmt: skip
    assert groups["sampler"]["steps"] | {"help": ""} == {
        "required": False, "name": "steps", "title": "Steps", "help": "", "default": 1000, "kind": "number",
        "whole": True, "minimum": 1, "maximum": None,
    }  # fmt: skip
    assert groups["sampler"]["rule"]["options"] == ["ddpm", "ddim"]
    assert set(done) == {"ablate", "switch", "patch", "steer"}
    assert [one["name"] for one in done["ablate"]["channel"]["forms"]] == [
        "value", "max_channel", "gradient_channel", "random",
    ]  # fmt: skip
    assert (done["switch"]["at"]["kind"], done["switch"]["to"]["forms"][0]["kind"]) == ("numbers", "label")
    about = found["model"]
    assert about["labels"]["attributes"] == ("bangs", "male", "smile", "lipstick")
    assert about["shape"] == [3, 32, 32]
    assert "eyes" in about["regions"]
    assert [layer["name"] for layer in about["layers"]] == list(sites(zoo.card("faces32"), "faces32"))


def test_every_field_says_what_it_is_for(filled):
    silent = [field["name"] for field in every(form(filled)) if not field["help"]]
    assert silent == []


def test_no_field_asks_for_a_file(filled):
    shown = list(every(form(filled)))
    assert not {field["name"] for field in shown} & {"file", "png", "source", "images", "into", "options"}
    (vector,) = [field for field in shown if field["name"] == "vector"]
    assert [one["kind"] for one in vector["forms"]] == ["numbers", "table"]


@pytest.mark.parametrize("name", names("pipelines"))
def test_every_setting_of_a_shipped_pipeline_has_a_field(filled, name):
    found, table = form(filled), merged(find(name, kind="pipelines"))
    groups = {group["name"]: set(fields(group)) for group in found["groups"]}
    kinds = {kind["name"]: {"use", "needs", *fields(kind)} for kind in found["stages"]["kinds"]}
    done = {kind["name"]: {"kind", *fields(kind)} for kind in found["interventions"]["kinds"]}
    for group in ("sampler", "cases", "numerics"):
        assert set(table.get(group, {})) <= groups[group]
    for stage, own in table["stages"].items():
        assert set(own) <= kinds[own.get("use", stage)]
    for own in table.get("interventions", {}).values():
        assert set(own) <= done.get(own["kind"], {"kind", "parts"})


def test_the_base_is_what_the_store_was_asked_for_last(filled):
    assert form(filled)["base"]["cases"] == {"seeds": [0, 1], "labels": [0, 1]}
    running.run(
        pipeline({**SMALL, "cases": {"seeds": "0:3", "labels": [1]}}, Text("the test", "")), into=filled
    )
    base = form(filled)["base"]
    assert base["cases"] == {"seeds": [0, 1, 2], "labels": [1]}
    assert running.run(pipeline(base, Text("the test", "")), into=filled).forwards == 0


def test_a_model_that_is_neither_the_stores_nor_shipped_is_refused(filled):
    for model in ("/etc/passwd", "os:getcwd", "facez32"):
        with pytest.raises(DefinitionError, match=r"not one that can be run(.|\n)*"):
            form(filled, model=model)
    assert form(filled, model="digits")["model"]["labels"]["classes"] == 10


def test_a_store_that_cannot_be_run_says_why(tmp_path):
    with pytest.raises(StoreError, match="no definition"):
        form(tmp_path / "nothing")


def test_form_and_plan_never_import_torch(filled):
    program = (
        "import sys; from flowprofile.app.forms import form; from flowprofile.app.plans import planned\n"
        "from flowprofile.definitions import pipeline, Text\n"
        f"found = form({filled!r}, model='faces32')\n"
        f"planned(pipeline({FACES!r}, Text('t', '')), {filled!r})\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
