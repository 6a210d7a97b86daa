"""An exported folder answers as the server does, opens from a disk, and asks nobody for anything."""

import fcntl
import gzip
import json
import re
from base64 import b64decode
from functools import cache
from urllib.parse import parse_qsl

import pytest
from browsing import serving, watched
from click.testing import CliRunner
from compared_stores import sampled
from pages import drawn, pixels, slide

from flowprofile.app import exporting
from flowprofile.app.exporting import MARK, export
from flowprofile.app.packs import key_of
from flowprofile.app.profiles import opened
from flowprofile.app.replacing import replacing
from flowprofile.app.server import Shown, answered, answers, application
from flowprofile.cli.main import group
from flowprofile.errors import DefinitionError

STAGES = {
    "trajectory": {},
    "predicted_x0": {"keep": "::2"},
    "activations": {"layers": "*.fn"},
    "attention": {"layers": "*.fn"},
    "max_channel": {"layers": "*.fn"},
    "layer_gradients": {"layers": "*.fn", "mask": {"rectangle": [2, 2, 4, 4]}, "keep": "::4"},
    "volume": {"use": "gradient_volume", "mask": {"rectangle": [2, 2, 4, 4]}, "keep": "::4"},
    "label_ssim": {"use": "ssim", "between": "labels"},
    "clean_ssim": {"use": "ssim", "between": "clean"},
}
CASE = {"intervention": "none", "label": "0", "seed": "0"}


@pytest.fixture(scope="module")
def lively(tmp_path_factory):
    """A store of a network with layers: three seeds of two labels, clean and with the label switched."""
    return sampled(
        tmp_path_factory.mktemp("lively") / "store", seeds="0:3", labels=(0, 1), steps=8, stages=STAGES
    )


@pytest.fixture(scope="module")
def folder(lively, tmp_path_factory):
    """Two labels of one seed, clean and acted upon."""
    into = tmp_path_factory.mktemp("exported") / "folder"
    export(lively, into, labels=[0, 1])
    return into


@pytest.fixture
def exported(browser):
    """A page of a disk."""
    with watched(browser, hosts=()) as found:
        yield found


def data(folder, name):
    text = (folder / "data" / f"{name}.js").read_text()
    return gzip.decompress(b64decode(re.fullmatch(r'flowprofileData\("\w+","(.*)"\);\n', text)[1]))


def held(folder, name, pairs, part=""):
    """An answer in a folder, as the page finds it."""
    found = json.loads(data(folder, "index"))["answers"][key_of(name, pairs)]
    file, start, end = found[part]
    return data(folder, file)[start:end]


@cache
def _shown(store):
    return Shown(opened(store))


def of_server(store, name, pairs):
    found = answered(_shown(str(store)), answers()[name], pairs)
    assert found.status_code == 200, found.body
    return found.body


def test_every_state_of_every_panel_is_held_byte_for_byte_as_the_server_sends_it(lively, folder):
    seen = set()
    for view in ("sample", "activations", "attention", "gradients"):
        for panel in json.loads(held(folder, view, _case(lively)))["panels"]:
            seen.add(panel["node"])
            for t in panel["times"]:
                pairs = parse_qsl(panel["block"])
                told = of_server(lively, "block", [*pairs, ("times", str(t))])
                assert held(folder, "block", pairs, str(t)) == told
            assert held(folder, "limits", pairs) == of_server(lively, "limits", pairs)
    assert {"trajectory", "activations/mid_attn.fn", "gradients/volume"} <= seen


def test_the_catalogue_offers_what_is_exported_and_no_runs(folder):
    told = json.loads(held(folder, "catalogue", ()))
    (run,) = told["runs"]
    assert [each["label"] for each in run["labels"]] == [0, 1]
    assert run["seeds"] == [[0, 1]]
    assert len(run["interventions"]) == 2
    assert not told["runs_allowed"]


def test_blocks_that_are_too_large_to_travel_whole_are_held_channel_by_channel(small, tmp_path, monkeypatch):
    monkeypatch.setattr("flowprofile.app.blocks.MOST", 8)
    monkeypatch.setattr("flowprofile.app.blocks.PLANES", 0)
    export(str(small), tmp_path / "folder")
    panel = json.loads(held(tmp_path / "folder", "sample", _case(small)))["panels"][0]
    assert not panel["whole"]
    pairs, t = parse_qsl(panel["block"]), panel["times"][1]
    told = of_server(small, "block", [*pairs, ("times", str(t)), ("channel", "0")])
    assert held(tmp_path / "folder", "block", pairs, f"{t}/0") == told


def test_an_earlier_export_is_replaced_and_what_is_not_ours_is_left_alone(small, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    first = export(str(small), folder, labels=[0, 1])
    again = export(str(small), folder)
    assert (first.cases, again.cases) == (2, 1)
    assert again.files == sum(path.is_file() for path in folder.rglob("*")) < first.files
    assert again.bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    (folder / MARK).unlink()
    with pytest.raises(DefinitionError, match="no earlier export"):
        export(str(small), folder)
    assert (folder / "index.html").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_a_killed_export_left_is_removed_and_what_another_writes_is_not(small, tmp_path):
    left, live = tmp_path / ".folder-abcd1234", tmp_path / ".folder-abcd5678"
    others = [tmp_path / ".folder-2-abcd1234", tmp_path / ".folder-mine1234"]
    for scratch in (left, live, *others):
        (scratch / "new" / "data").mkdir(parents=True)
        (scratch / "lock").touch()
    (others[1] / "notes.txt").touch()
    with replacing(tmp_path / "other"), (live / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        export(str(small), tmp_path / "folder")
        assert any(path.name.startswith(".other-") for path in tmp_path.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["folder", "other", live.name, *(path.name for path in others)]
    )


def test_an_export_that_was_killed_between_two_names_gives_the_earlier_one_back(tmp_path):
    scratch = tmp_path / ".folder-abcd1234"
    (scratch / "old").mkdir(parents=True)
    (scratch / "old" / MARK).write_text("earlier")
    (scratch / "lock").touch()

    def failing():
        with replacing(tmp_path / "folder"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert (tmp_path / "folder" / MARK).read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_nothing_is_written_into_the_store_nor_over_it(small):
    before = sorted(small.rglob("*"))
    for into in (small, small / "shown", small / "ledger" / "shown"):
        with pytest.raises(DefinitionError, match="lies in the store"):
            export(str(small), into)
    with pytest.raises(DefinitionError, match="holds the store"):
        export(str(small), small.parent)
    assert sorted(small.rglob("*")) == before


def test_what_is_too_large_is_refused_before_anything_is_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LARGEST", 10_000)
    with pytest.raises(DefinitionError, match="would take up to"):
        export(str(small), tmp_path / "folder")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"labels": [99]}, "no label 99"),
        ({"seeds": [99]}, "no seed 99"),
        ({"interventions": ["zero"]}, "no intervention 'zero'"),
    ],
)
def test_a_case_that_is_not_there_is_refused(small, tmp_path, asked, told):
    with pytest.raises(DefinitionError, match=told):
        export(str(small), tmp_path / "folder", **asked)


def test_the_command_says_what_it_wrote(small, tmp_path):
    run = CliRunner().invoke(group, ["app", str(small), "--export", str(tmp_path / "x"), "--label", "1"])
    assert run.exit_code == 0, run.output
    assert re.search(r"x: 1 case\(s\), \d+ files, [\d.]+ MiB", run.output)
    assert "index.html" in run.output
    assert re.findall(r"case (\d) of 1 \(none, label 1, seed 0\): (\w+)", run.output) == [
        ("1", "views"),
        ("1", "states"),
    ]
    alone = CliRunner().invoke(group, ["app", str(small), "--label", "1"])
    assert alone.exit_code != 0
    assert "--export" in alone.output


def _case(store):
    name, _ = opened(store).run()
    return [("run", name), *CASE.items()]


def _opened(page, folder, address):
    page.goto(f"{folder.as_uri()}/index.html#{address}")
    drawn(page)


def _answer(page, url):
    """What the folder answers to an address, as bytes."""
    script = """async (url) => {
      const bytes = new Uint8Array(await window.flowprofileExport(url));
      let text = "";
      for (const byte of bytes) text += String.fromCharCode(byte);
      return btoa(text);
    }"""
    return b64decode(page.evaluate(script, url))


@pytest.mark.browser
def test_a_folder_opens_from_a_disk_and_shows_activations_that_move(exported, folder):
    _opened(exported, folder, "/activations?label=0&time=500&channel=3&layer=mid_attn.fn")
    node = "activations/mid_attn.fn"
    first = pixels(exported, node)
    assert len(set(map(tuple, zip(*[iter(first)] * 4, strict=True)))) > 10
    slide(exported, "channel", 5)
    drawn(exported)
    second = pixels(exported, node)
    assert second != first
    slide(exported, "time", 6)
    drawn(exported)
    assert pixels(exported, node) != second
    assert "channel=5" in exported.url


@pytest.mark.browser
def test_every_view_opens_from_a_disk_and_another_layer_can_be_chosen(exported, folder):
    for view in ("sample", "activations", "attention", "gradients", "measures", "compare", "sweep"):
        _opened(exported, folder, f"/{view}")
        exported.wait_for_selector(f".view-{view}")
        assert not exported.locator(".refusal").count(), view
    _opened(exported, folder, "/activations?layer=mid_attn.fn")
    exported.locator("rect.layer.stored:not(.shown)").first.click()
    exported.locator("rect.layer.shown").nth(1).wait_for()
    assert exported.locator("rect.layer.shown").count() == 2
    assert exported.locator("figure.panel canvas.map").count() == 3
    assert exported.get_by_role("link", name="Run").count() == 0
    _opened(exported, folder, "/sampel?time=1")
    said = exported.locator(".unmet p").all_inner_texts()
    assert [line.partition(". ")[0] for line in said] == [
        "The address says view=sampel",
        "The address says time=1",
    ]


@pytest.mark.browser
def test_everything_the_page_asks_a_server_is_in_the_folder_and_the_same(browser, lively, folder, exported):
    asked = []
    with serving(application(lively)) as address, watched(browser) as page:
        page.on("request", lambda request: asked.append(request.url.removeprefix(address)))
        for path in (
            "/sample?label=1", "/activations", "/activations?layer=mid_attn.fn&layer=ups.0.2.fn&label=1",
            "/attention", "/gradients", "/gradients?object=layers", "/measures?label=1",
            "/compare?side=label%3D1", "/compare?label=1&side=label%3D0&excess=1",
            "/compare?side=label%3D1&object=activations/mid_attn.fn:activation", "/compare",
            "/sweep",
        ):  # fmt: skip
            page.goto(address + path)
            drawn(page)
            page.wait_for_timeout(150)
    urls = [url for url in dict.fromkeys(asked) if url.startswith("/api/") and url != "/api/catalogue"]
    assert len(urls) > 30
    _opened(exported, folder, "/sample")
    for url in urls:
        name, _, query = url.removeprefix("/api/").partition("?")
        told = of_server(lively, name, parse_qsl(query))
        # The server's table has the seeds too that are not in the folder.
        found = _answer(exported, url.replace("seeds=0%2C1%2C2", "seeds=0"))
        if name == "sweep":
            _same_rows(json.loads(found), json.loads(told))
        elif name == "thumbnails":
            assert _picture(found) in _picture(told)
        elif name == "block":
            assert _states(found) == _states(told)
        elif told.startswith(b"{"):
            assert _without_offers(found) == _without_offers(told), url
        else:
            assert found == told


@pytest.mark.browser
def test_several_sides_are_put_together_as_the_server_does(exported, lively, folder):
    _, tree = opened(lively).run()
    acted = next(name for name in tree.coords["intervention"].values.tolist() if name != "none")
    pairs = [*_case(lively), ("side", "label=1"), ("side", f"intervention={acted}".replace(">", "%3E"))]
    _opened(exported, folder, "/sample")
    for name in ("compare", "compare.csv"):
        url = exported.evaluate(
            "([name, pairs]) => `/api/${name}?${new URLSearchParams(pairs)}`", [name, pairs]
        )
        found, told = _answer(exported, url), of_server(lively, name, pairs)
        assert found == told if name.endswith("csv") else _without_offers(found) == _without_offers(told)


@pytest.mark.browser
@pytest.mark.parametrize(
    "more",
    [
        {"sort": "label_ssim:mean", "order": "desc", "column": "label_ssim:mean"},
        {"sort": "clean_ssim:last", "column": "label_ssim:last"},
        {"sort": "intervention", "order": "desc"},
        {"sort": "label", "order": "desc", "only": "intervention=none", "limit": "1", "offset": "1"},
    ],
)
def test_the_table_is_sorted_and_filtered_as_the_server_does(exported, lively, folder, more):
    _opened(exported, folder, "/sweep")
    pairs = [*_case(lively)[:1], ("only", "seed=0"), *more.items()]
    for name in ("sweep", "sweep.csv"):
        url = exported.evaluate(
            "([name, pairs]) => `/api/${name}?${new URLSearchParams(pairs)}`", [name, pairs]
        )
        found, told = _answer(exported, url), of_server(lively, name, pairs)
        if name == "sweep":
            assert json.loads(found) == json.loads(told)
        else:
            assert found.splitlines()[0] == told.splitlines()[0]
            assert len(found.splitlines()) == len(told.splitlines())


@pytest.mark.browser
def test_what_a_folder_does_not_hold_is_refused_with_what_to_do(exported, folder):
    _opened(exported, folder, "/sample?seed=2")
    told = exported.locator(".refusal").inner_text()
    assert "not in the exported folder" in told
    assert "flowprofile app" in told


def _states(data):
    """Every state of an answer by itself, whether they came together or one by one."""
    found, at = {}, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        head = json.loads(data[at + 4 : at + 4 + length])
        at += 4 + length
        size = 2
        for extent in head["shape"]:
            size *= extent
        for scale, t in zip(head["scales"], head["times"], strict=True):
            found[t] = (scale, head["shape"], data[at : at + size])
            at += size
    return found


def _same_rows(found, told):
    """A table of the exported cases is the server's without the others."""
    assert found["columns"] == told["columns"]
    assert found["offered"] == told["offered"]
    assert found["rows"] == [row for row in told["rows"] if row["seed"] == 0]
    assert len(found["rows"]) == 4


def _picture(data):
    return data[4 + int.from_bytes(data[:4], "little") :]


def _without_offers(data):
    """A comparison, but for what else could be compared, which a folder has less of."""
    told = json.loads(data)
    return {name: value for name, value in told.items() if name not in ("objects", "measures")}
