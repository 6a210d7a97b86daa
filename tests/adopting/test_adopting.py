"""Caches of others become profiles: the same numbers in their places, and never taken for computed ones."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from activation_caches import TIMES, activations, rows_of, save_dataset
from click.testing import CliRunner
from safetensors.numpy import save_file

import flowprofile as fp
from flowprofile import running
from flowprofile.cli.adopting import adopt
from flowprofile.cli.main import COMMANDS
from flowprofile.conditioning.labels import prompt_number
from flowprofile.errors import DefinitionError, FlowProfileError, IntegrityError, NonFiniteError, StoreError
from flowprofile.store.layout import StoreLayout
from flowprofile.store.store import Store
from flowprofile.store.verify import verify
from flowprofile.upkeep.merge import merge

FAST = StoreLayout(durability="none", chunk="1 KiB", shard="2 KiB", small="1 KiB")
UP, MID = "unet.up_blocks.1.attentions.1", "unet.mid_block"


def contents(url):
    root = Path(url)
    files = [*(root / "profile.zarr").rglob("*"), *(root / "ledger").rglob("*")]
    return {
        str(f.relative_to(root)): f.read_bytes() for f in sorted(files) if f.is_file() and f.suffix != ".lock"
    }


def saeuron(root, *, cases=5, shards=3):
    """A folder per hook, one of them in chunks beside the buffer that was shuffled."""
    values = {UP: activations(cases, seed=1), MID: activations(cases, seed=2, dtype="float32", shape=(4, 3))}
    save_dataset(root / UP, *rows_of(values[UP]), shards=shards)
    chunks = np.array_split(values[MID], 2)
    for number, chunk in enumerate(chunks):
        save_dataset(root / MID / f"chunk_{number:05d}", *rows_of(chunk))
    rows, steps = rows_of(values[MID])
    order = np.random.default_rng(0).permutation(len(rows))
    save_dataset(root / MID / "rolling_buffer", rows[order], steps[order])
    return values


def picture(values, rows, columns):
    """[case time token channel] -> [case time channel y x]"""
    return np.moveaxis(values, -1, 2).reshape(*values.shape[:2], values.shape[-1], rows, columns)


def test_saeurons_folders_become_layers_along_the_four_axes(tmp_path):
    values = saeuron(tmp_path / "cache")
    prompts = ["a cat", "a dog", "a cat", "a cat", "a cow"]
    found = fp.adopt(tmp_path / "cache", tmp_path / "store", prompts=prompts, layout=FAST)
    assert (found.layers, found.cases) == (("mid_block", "up_blocks.1.attentions.1"), 5)
    tree = fp.open(tmp_path / "store")
    up = tree["activations/up_blocks.1.attentions.1"]
    assert up["activation"].dims == ("intervention", "label", "seed", "time", "channel", "y", "x")
    assert up["activation"].time.values.tolist() == up["activation"].timestep.values.tolist() == list(TIMES)
    assert up["activation"].dtype == np.float16
    wanted = picture(values[UP], 4, 4)
    places = [("a cat", 0), ("a dog", 0), ("a cat", 1), ("a cat", 2), ("a cow", 0)]
    for number, (prompt, seed) in enumerate(places):
        cell = up.sel(label=prompt_number(prompt), seed=seed, intervention="none")
        assert cell["activation"].values.tobytes() == wanted[number].tobytes()
        assert (cell["status"] == 2).all()
        assert cell["prompt"].item() == prompt
    # A prompt that was sampled once has no second sample that would be missing.
    assert (up["status"].sel(label=prompt_number("a cow"), seed=2) == 0).all()
    mid = tree["activations/mid_block"]["activation"].sel(label=prompt_number("a cow"), seed=0)
    assert (mid.squeeze().values == picture(values[MID], 2, 2)[4]).all()
    assert verify(tmp_path / "store").sound


def test_what_was_adopted_is_not_taken_for_computed(tmp_path):
    saeuron(tmp_path / "cache")
    stages = {"trajectory": {}}
    fp.profile(
        "mixture16", seeds="0:2", labels=[0], into=tmp_path / "store", stages=stages, sampler={"steps": 4}
    )
    before = set(Store.open(tmp_path / "store").runs())
    found = fp.adopt(tmp_path / "cache", tmp_path / "store", name="theirs")
    tree = fp.open(tmp_path / "store", run="theirs")
    told = tree.attrs["adopted"]
    assert "another program" in told["computed_by"]
    assert min(told["files"]).startswith("unet.mid_block/chunk_00000/data-00000")
    assert all(len(digest) == 64 for digest in told["files"].values())
    assert "noise seeds are not known" in told["seed"]
    assert tree["activations/mid_block"].attrs["kind"] == "adopted"
    assert before | {found.run} == set(Store.open(tmp_path / "store").runs())
    # Nothing of it can be computed: the definitions are those of the run that was.
    assert [each.model for each in running.recorded(tmp_path / "store")] == ["mixture16"]
    fp.adopt(tmp_path / "cache", tmp_path / "alone")
    with pytest.raises(StoreError, match="holds no definition"):
        running.ensure(tmp_path / "alone")
    # Upkeep knows it as any other.
    with Store.open(tmp_path / "joined") as target:
        assert merge([Store.open(tmp_path / "alone"), Store.open(tmp_path / "store")], target).cells


def test_other_bytes_or_other_cases_are_another_run(tmp_path):
    values = activations(2)
    save_dataset(tmp_path / "cache" / "mid", *rows_of(values))
    first = fp.adopt(tmp_path / "cache", tmp_path / "store")
    assert fp.adopt(tmp_path / "cache", tmp_path / "store", seeds=(7, 3)).run != first.run
    values[1, 2, 3, 4] += 1
    save_dataset(tmp_path / "other" / "mid", *rows_of(values))
    assert fp.adopt(tmp_path / "other", tmp_path / "store", name="cache").run != first.run
    assert len(Store.open(tmp_path / "store").runs()) == 3
    seeds = fp.open(
        tmp_path / "store", run=fp.adopt(tmp_path / "cache", tmp_path / "store", seeds=(7, 3)).run
    )
    cell = seeds["activations/mid"]["activation"].sel(seed=7, label=0)
    assert (cell.squeeze().values == picture(activations(2), 4, 4)[0]).all()


@pytest.mark.parametrize("after", [1, 4, 7])
def test_killed_and_repeated_it_ends_with_the_same_bytes(tmp_path, after):
    saeuron(tmp_path / "cache")
    told = {"prompts": ["a", "b", "a", "a", "b"], "layout": FAST}
    whole = fp.adopt(tmp_path / "cache", tmp_path / "whole", **told)
    assert whole.regions == 8
    program = f"""
import os, flowprofile as fp
from flowprofile.store import writing
from flowprofile.store.layout import StoreLayout
done, real = [], writing.write
def write(*args, **kwargs):
    done.append(1)
    if len(done) > {after}:
        os._exit(9)
    return real(*args, **kwargs)
writing.write = write
layout = StoreLayout(durability="none", chunk="1 KiB", shard="2 KiB", small="1 KiB")
fp.adopt({str(tmp_path / "cache")!r}, {str(tmp_path / "cut")!r}, prompts=["a", "b", "a", "a", "b"], layout=layout)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    rest = fp.adopt(tmp_path / "cache", tmp_path / "cut", **told)
    assert rest.regions == whole.regions - after
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    times = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "cut").rglob("*") if path.suffix != ".lock"
    }
    assert fp.adopt(tmp_path / "cache", tmp_path / "cut", **told).regions == 0
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "cut").rglob("*") if p.suffix != ".lock"}


def test_safetensors_are_read_by_the_axes_they_are_said_to_have(tmp_path):
    values = activations(3, dtype="float32", shape=(6, 5))
    turned = np.ascontiguousarray(values.transpose(1, 0, 3, 2))  # time case channel token
    save_file({"mid": turned, "timestep": np.array(TIMES)}, tmp_path / "one.safetensors")
    dims = ["time", "case", "channel", "token"]
    fp.adopt(tmp_path / "one.safetensors", tmp_path / "store", dims=dims, grid=(2, 3))
    found = fp.open(tmp_path / "store")["activations/mid"]["activation"]
    assert (found.squeeze().values == picture(values, 2, 3)).all()
    # Its axes in the file itself, further cases in further files, and five axes that need no saying.
    folder = tmp_path / "folder"
    folder.mkdir()
    maps = picture(values, 2, 3)
    for number, part in enumerate((maps[:1], maps[1:])):
        tensors = {
            "unet.mid": np.ascontiguousarray(part),
            "late": turned[:, :1] if number == 0 else turned[:, 1:],
        }
        save_file(
            {**{name: np.ascontiguousarray(each) for name, each in tensors.items()}},
            folder / f"{number}.safetensors",
            metadata={"late.dims": "time case channel token"},
        )
    fp.adopt(folder, tmp_path / "more", timesteps=TIMES, grid=(2, 3))
    tree = fp.open(tmp_path / "more")
    for layer in ("mid", "late"):
        assert (tree[f"activations/{layer}"]["activation"].squeeze().values == maps).all()


def test_bfloat16_is_widened_and_keeps_its_values(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save

    values = torch.linspace(-3, 3, 2 * 5 * 1 * 2 * 2).view(2, 5, 1, 2, 2).to(torch.bfloat16)
    save({"mid": values, "timesteps": torch.tensor(TIMES)}, tmp_path / "b.safetensors")
    fp.adopt(tmp_path / "b.safetensors", tmp_path / "store")
    found = fp.open(tmp_path / "store")["activations/mid"]["activation"]
    assert found.dtype == np.float32
    assert (found.values.reshape(values.shape) == values.float().numpy()).all()


def refusals(tmp_path):
    """What cannot be adopted: how the cache is made, what is said of it, and what it is told."""
    good = rows_of(activations(4))
    short = [each[:-1] for each in good]
    gap = [np.delete(each, 7, axis=0) for each in good]
    order = np.random.default_rng(3).permutation(len(good[0]))
    twice = rows_of(activations(4), (801, 601, 601, 201, 1))
    yield (
        "shuffled",
        lambda at: save_dataset(at / "mid", *(each[order] for each in good)),
        {},
        "Row .* has timestep",
    )
    yield "one missing", lambda at: save_dataset(at / "mid", *gap), {}, "Row 7 of 'mid' has timestep 201"
    yield "the last missing", lambda at: save_dataset(at / "mid", *short), {}, "is missing"
    yield "asked twice", lambda at: save_dataset(at / "mid", *twice), {}, "Row 2 .* has timestep 601"
    tokens = rows_of(activations(2, shape=(15, 2)))
    yield "no square", lambda at: save_dataset(at / "mid", *tokens), {}, "do not fill a square"
    yield (
        "other grid",
        lambda at: save_dataset(at / "mid", *tokens),
        {"grid": (4, 4)},
        "do not fill the grid 4 x 4",
    )
    yield "two shapes", lambda at: (
        save_dataset(at / "mid" / "chunk_0", *good),
        save_dataset(at / "mid" / "chunk_1", *tokens),
    ), {}, "rows of"  # fmt: skip
    yield "layers that differ", lambda at: (
        save_dataset(at / "a", *good),
        save_dataset(at / "b", *rows_of(activations(3))),
    ), {}, "different numbers of cases"  # fmt: skip
    yield "prompts", lambda at: save_dataset(at / "mid", *good), {"prompts": ["a"]}, "1 prompts for 4 cases"
    yield "seeds", lambda at: save_dataset(at / "mid", *good), {"seeds": (1, 2, 2, 3)}, "Two cases are seed 2"
    yield "nothing there", lambda at: at.mkdir(), {}, "no cache of activations"
    yield (
        "pickle",
        lambda at: (at.mkdir(), (at / "a.pt").write_bytes(b"\x80\x02")),
        {},
        "pickles .* are not opened",
    )


ASKED = ("no square", "other grid", "prompts", "seeds", "nothing there", "pickle")
"""Where what was asked does not fit; elsewhere what is stored is at fault."""


@pytest.mark.parametrize("number", range(12))
def test_what_cannot_be_read_without_guessing_is_refused_before_anything_is_written(tmp_path, number):
    name, make, told, message = list(refusals(tmp_path))[number]
    make(tmp_path / "cache")
    with pytest.raises(DefinitionError if name in ASKED else StoreError, match=message) as refusal:
        fp.adopt(tmp_path / "cache", tmp_path / "store", **told)
    assert refusal.value.consequence
    assert refusal.value.remedy
    assert not (tmp_path / "store").exists()


def test_ragged_rows_lying_files_and_columns_that_are_not_there_are_refused(tmp_path):
    def shard(name, columns):
        folder = tmp_path / name / "mid"
        folder.mkdir(parents=True)
        batch = pa.record_batch(columns)
        with (
            pa.OSFile(str(folder / "x.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "x.arrow"}]}))
        return tmp_path / name

    steps = pa.array([5, 3], pa.uint16())
    ragged = pa.array([[[1.0], [2.0]], [[1.0]]])
    for cache, message in (
        (shard("ragged", {"activations": ragged, "timestep": steps}), "Ragged rows|with 1 and with 2"),
        (shard("null", {"activations": pa.array([[[1.0]], None]), "timestep": steps}), "null"),
        (shard("text", {"activations": pa.array(["a", "b"]), "timestep": steps}), "column of string"),
        (shard("absent", {"activations": ragged, "step": steps}), "no column 'timestep'"),
        (shard("flat", {"activations": pa.array([1.0, 2.0]), "timestep": steps}), "no picture"),
        (shard("half", {"activations": ragged, "timestep": pa.array([1.5, 0.5])}), "not one whole number"),
    ):
        with pytest.raises(StoreError) as refusal:
            fp.adopt(cache, tmp_path / "store")
        assert re.search(message, str(refusal.value)), str(refusal.value)
    cut = save_dataset(tmp_path / "cut" / "mid", *rows_of(activations(4))) / "data-00000-of-00001.arrow"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(StoreError, match=r"cannot be read|is missing"):
        fp.adopt(tmp_path / "cut", tmp_path / "store")
    away = save_dataset(tmp_path / "away" / "mid", *rows_of(activations(1)))
    (away / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../x.arrow"}]}))
    with pytest.raises(StoreError, match="cannot be read") as refusal:
        fp.adopt(tmp_path / "away", tmp_path / "store")
    assert "outside its folder" in refusal.value.evidence
    big = (
        shard("big", {"activations": pa.array(np.zeros((2, 4, 4)).tolist()), "timestep": steps})
        / "mid"
        / "x.arrow"
    )
    batch = pa.record_batch({"activations": pa.array(np.zeros((2, 4, 90000)).tolist()), "timestep": steps})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(big), "wb") as sink, pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    with pytest.raises(StoreError) as refusal:
        fp.adopt(tmp_path / "big", tmp_path / "store")
    assert "a batch of" in refusal.value.evidence
    assert not (tmp_path / "store").exists()


def test_safetensors_that_do_not_say_what_they_are_are_refused(tmp_path):
    values, times = activations(2), np.array(TIMES)
    for number, (tensors, told, message) in enumerate((
        ({"mid": values, "timestep": times}, {}, "What the axes of 'mid'"),
        ({"mid": values}, {"dims": ["case", "time", "token", "channel"]}, "does not say at which timesteps"),
        ({"mid": values, "timestep": times[::-1].copy()}, {}, "do not fall"),
        ({"mid": values, "timestep": times}, {"dims": ["time", "case", "token", "channel"]}, "2 states along time"),
        ({"mid": values, "timestep": times}, {"dims": ["case", "time", "token", "x"]}, "What the axes"),
        ({"timestep": times}, {}, "cannot be read"),
    )):  # fmt: skip
        save_file(tensors, tmp_path / f"{number}.safetensors")
        with pytest.raises(StoreError if message == "cannot be read" else DefinitionError, match=message):
            fp.adopt(tmp_path / f"{number}.safetensors", tmp_path / "store", **told)
    (tmp_path / "lie.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(FlowProfileError):
        fp.adopt(tmp_path / "lie.safetensors", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_value_that_is_no_number_is_named_and_not_stored(tmp_path):
    values = activations(10)
    values[9, 3, 1, 2] = np.nan
    save_dataset(tmp_path / "cache" / "mid", *rows_of(values))
    with pytest.raises(
        NonFiniteError, match=r"'mid', case 9 .*seed 9.* nan at time, channel, y, x = \[3, 2, 0, 1\]"
    ):
        fp.adopt(tmp_path / "cache", tmp_path / "store", layout=FAST)
    status = fp.open(tmp_path / "store")["activations/mid"]["status"].squeeze()
    assert (status.sel(seed=slice(0, 7)) == 2).all()
    assert (status.sel(seed=9) == 1).all()


def test_a_file_that_changes_meanwhile_is_not_vouched_for(tmp_path, monkeypatch):
    cache = save_dataset(tmp_path / "cache" / "mid", *rows_of(activations(3)))
    real = Store.prepare

    def prepare(self, *args, **kwargs):
        os.utime(next(cache.glob("*.arrow")), ns=(0, 0))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Store, "prepare", prepare)
    with pytest.raises(IntegrityError, match="changed while it was read"):
        fp.adopt(tmp_path / "cache", tmp_path / "store")


def test_the_command_adopts(tmp_path):
    saeuron(tmp_path / "cache")
    (tmp_path / "prompts.txt").write_text("a cat\na dog\na cat\na cat\na cow\n")

    def say(*args):
        return CliRunner().invoke(adopt, [str(tmp_path / "cache"), *map(str, args)])

    into = ("--into", tmp_path / "store", "--prompts", tmp_path / "prompts.txt")
    assert "2 layers of 5 cases" in say(*into).output
    assert " 0 regions written" in say(*into).output
    assert "do not fill the grid 3 x 3" in str(say(*into, "--grid", "3x3").exception)
    assert "is no grid" in say(*into, "--grid", "3").output
    assert "no list of numbers" in say(*into, "--timesteps", "3,a").output
    assert say(*into, "--timesteps", "801,601", "--dims", "case, time", "--seeds", "4:9").exit_code == 0
    assert "adopt" in COMMANDS
