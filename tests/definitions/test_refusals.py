"""Every wrong definition is refused before a model is loaded, with value, range, place and remedy."""

import pickle
import re
import subprocess
import sys
import zipfile

import pytest

from flowprofile import running
from flowprofile.errors import DefinitionError, FlowProfileError, ModelError, StoreError
from flowprofile.store.layout import StoreLayout

GOOD = """
model = "digits"
sampler = { rule = "ddpm", steps = 50 }

[cases]
seeds = "0:2"
labels = [3]

[stages.trajectory]
keep = "::10"

[stages.step_ssim]
use = "ssim"
window = 5
"""

WRONG = {
    "unknown key": ('model = "digits"', 'model = "digits"\nmodle = "x"', r"'modle'.*line 3.*did you mean 'model'"),
    "unknown key below": ("window = 5", "windw = 5", r"'windw'.*line 14.*did you mean 'window'"),
    "unknown kind": ('use = "ssim"', 'use = "sim"', r"'sim'.*stages\.step_ssim\.use.*did you mean 'ssim'"),
    "unknown stage needed": ('use = "ssim"', 'use = "ssim"\nneeds = ["trajectry"]', r"cannot read \['trajectry'\].*line 14.*'trajectory'"),
    "unknown model": ('"digits"', '"digitz"', r"'digitz'.*key model.*did you mean 'digits'"),
    "unknown rule": ('"ddpm"', '"dppm"', r"'dppm'.*sampler.*did you mean 'ddpm'"),
    "rule without parameter": ("steps = 50", "steps = 50, eta = 0.5", r"'ddpm' has no parameter 'eta'"),
    "guidance without null": ('"digits"', '"mixture16"', None),
    "label out of range": ("[3]", "[12]", r"Label 12.*0 .. 9.*key cases.labels"),
    "bare bits": ("[3]", "[0110]", r'line 7.*0110.*quote it: "0110"'),
    "negative seed": ('"0:2"', "[0, -1]", r"(?i)seed -1 is negative.*line 6"),
    "duplicate seeds": ('"0:2"', "[1, 1]", r"named twice.*\[1\].*line 6"),
    "no seeds": ('"0:2"', "[]", r"empty list of seeds.*line 6"),
    "empty range": ('"0:2"', '"3:3"', r"0 seeds.*line 6"),
    "no range": ('"0:2"', '"a:b"', r"not a half-open range.*line 6"),
    "step out of range": ('"::10"', "[1000, 1001]", r"1001.*line 9.*1000 down to 0"),
    "step off the grid": ('"::10"', "[1000, 999]", r"999.*visits 51 states"),
    "duplicate steps": ('"::10"', "[1000, 1000]", r"1000.*twice"),
    "no steps": ('"::10"', "[]", r"keeps no state.*line 9, key stages.trajectory"),
    "nothing but noise": ('"::10"', '"::100"', r"'::100' keeps only t = 1000, which is noise.*line 9, key stages.trajectory.*\"::5\" \(t = 1000, 900"),
    "stride 0": ('"::10"', '"::0"', r"stride 0.*key stages.trajectory.*at least 1"),
    "too many transitions": ("steps = 50", "steps = 1001", r"1001.*1 to 1000"),
    "even window": ("window = 5", "window = 6", r"window of 6.*odd.*3 to 7"),
    "window too large": ("window = 5", "window = 9", r"window of 9.*3 to 7"),
    "own code": ('"ssim"\nwindow = 5', '"mylab:sparsity"', r"code of your own.*--allow-code"),
    "reserved name": ("[stages.step_ssim]", '[stages."step.null"]', r"step\.null"),
    "path as name": ("[stages.step_ssim]", '[stages."../up"]', r"cannot be called '\.\./up'"),
    "no stages": ("[stages.trajectory]\nkeep", "[other]\nkeep", r"other"),
    "not toml": ("[cases]", "[cases", r"not valid TOML.*line"),
}  # fmt: skip


@pytest.mark.parametrize("what", [name for name, row in WRONG.items() if row[2]])
def test_a_wrong_definition_is_refused_with_its_place(what, tmp_path):
    old, new, pattern = WRONG[what]
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises((DefinitionError, ModelError)) as refusal:
        running.assembled(path)
    assert re.search(pattern, str(refusal.value).replace("\n", " ")), str(refusal.value)
    assert "mine.toml" in str(refusal.value)


def test_the_good_definition_is_accepted(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert len(running.assembled(path).sweep) == 2


def test_guidance_needs_a_null_label(tmp_path):
    path = tmp_path / "mine.toml"
    text = (
        GOOD.replace('"digits"', '"mixture16"')
        .replace("[3]", "[1]")
        .replace("steps = 50", "steps = 50, guidance_scale = 2.0")
    )
    path.write_text(text)
    with pytest.raises(DefinitionError, match="no null label"):
        running.assembled(path)


def test_labels_mean_the_same_in_three_spellings(tmp_path):
    path = tmp_path / "mine.toml"
    found = []
    for spelling in ("[6]", '["0110"]', '[["male", "smile"]]'):
        path.write_text(GOOD.replace('"digits"', '"faces32"').replace("[3]", spelling))
        found.append(running.assembled(path).sweep.labels)
    assert found == [(6,), (6,), (6,)]
    path.write_text(GOOD.replace('"digits"', '"faces32"').replace("[3]", '["01101"]'))
    with pytest.raises(DefinitionError, match=r"5 bits.*have 4"):
        running.assembled(path)


def test_extends_builds_on_another_file_and_cannot_go_round(tmp_path):
    (tmp_path / "base.toml").write_text(GOOD)
    (tmp_path / "more.toml").write_text('extends = "base"\n[cases]\nseeds = "0:5"\n')
    ready = running.assembled(tmp_path / "more.toml")
    assert (len(ready.sweep), ready.graph.stages["step_ssim"].params["window"]) == (5, 5)
    (tmp_path / "a.toml").write_text('extends = "b"\n')
    (tmp_path / "b.toml").write_text('extends = "a"\n')
    with pytest.raises(DefinitionError, match="extend each other"):
        running.assembled(tmp_path / "a.toml")


def test_a_pickle_is_never_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    plain, zipped = tmp_path / "plain.pt", tmp_path / "zipped.pt"
    plain.write_bytes(pickle.dumps(Evil()))
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil()))
    for path in (plain, zipped):
        definition = tmp_path / "mine.toml"
        definition.write_text(GOOD.replace('"digits"', f'"{path}"'))
        with pytest.raises(ModelError, match=r"(?i)pickle|zip"):
            running.assembled(definition)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("url", ["simplecache::file://x", "ftp://x", "data://x"])
def test_a_scheme_that_is_not_allowed_is_refused(url, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    with pytest.raises(DefinitionError, match="memory://"):
        running.run(path, into=url)


def test_a_folder_that_is_no_store_is_left_alone(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(StoreError, match="not a FlowProfile store"):
        running.run(path, into=folder)
    assert [file.name for file in folder.iterdir()] == ["cat.jpg"]


def test_a_newer_store_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    running.run(path, into=tmp_path / "store", layout=StoreLayout(durability="none"))
    (tmp_path / "store" / "ledger" / "format.json").write_text('{"kind": "flowprofile store", "schema": 99}')
    with pytest.raises(StoreError, match="schema 99"):
        running.run(path, into=tmp_path / "store")


def test_refusing_loads_no_torch(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("[3]", "[12]"))
    code = (
        "import sys\nfrom flowprofile import running\n"
        f"try:\n    running.run({str(path)!r}, into={str(tmp_path / 's')!r})\n"
        "except Exception as error:\n    print(type(error).__name__, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["DefinitionError", "False"]
    assert issubclass(DefinitionError, FlowProfileError)


def test_a_table_that_is_given_as_a_truth_is_refused_with_its_keys(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        GOOD
        + '\n[stages.volume]\nuse = "gradient_volume"\nmask = { from = "pixels", pixels = [[1, 1]] }\n[stages.reach]\nuse = "influence"\nneeds = ["volume"]\ngaussian = true\n'
    )
    with pytest.raises(
        DefinitionError, match=r"(?s)'gaussian' is a table.*sd, length_scale, correlation"
    ) as refusal:
        running.assembled(path)
    assert "mine.toml" in str(refusal.value)
