"""Folders that diffusers saved: what a profile takes from them, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import saved_folders
import torch
from diffusers import DDIMScheduler, DDPMScheduler

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import ModelError, StoreError
from flowprofile.models import zoo
from flowprofile.models.sites import sites
from flowprofile.models.taps import tapping

FAMILIES = ("UNet2DModel", "DiTTransformer2DModel")


@pytest.fixture
def copied(tmp_path):
    return Path(shutil.copytree(saved_folders.folder("UNet2DModel"), tmp_path / "copied"))


def plain(family):
    return {"UNet2DModel": saved_folders.unet, "DiTTransformer2DModel": saved_folders.dit}[family]()


def rows(card, count=8):
    x = torch.randn(count, *card.shape, generator=torch.Generator().manual_seed(3))
    index = torch.linspace(card.steps - 1, 0, count).long()
    return x, index, torch.arange(count) % card.labels.count


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_prediction_of_the_network_that_was_saved(family):
    path = saved_folders.folder(family)
    card, denoiser, network = zoo.card(path), zoo.load(path), plain(family)
    x, index, label = rows(card)
    with torch.no_grad():
        wanted = network(x, index, class_labels=label).sample[:, : card.shape[0]]
        assert torch.equal(denoiser(x, index, label), wanted)
    assert card.architecture == family
    assert (card.schedule, card.steps, card.prediction) == ("linear", 1000, "eps")


def test_the_unconditional_label_of_a_dit_is_the_row_behind_its_classes():
    path = saved_folders.folder("DiTTransformer2DModel")
    card, denoiser = zoo.card(path), zoo.load(path)
    assert card.null_label == card.labels.count == 10
    table = denoiser.module.transformer_blocks[0].norm1.emb.class_embedder.embedding_table
    assert len(table.weight) == 11
    x, index, _ = rows(card)
    assert torch.isfinite(denoiser(x, index, torch.full((8,), 10))).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_sites_known_from_shapes_are_those_of_the_loaded_network(family):
    path = saved_folders.folder(family)
    card, denoiser = zoo.card(path), zoo.load(path)
    found = sites(card, str(path))
    assert found == sites(card, denoiser)
    tokens = {name: (site.y, site.x) for name, site in found.items() if site.tokens}
    assert tokens == {name: place.grid for name, place in denoiser.places.items() if place.grid}
    assert tokens


def copied_output(out):
    return tuple(map(copied_output, out)) if isinstance(out, tuple) else out.clone()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_site_shows_what_a_plain_hook_sees_and_changes_nothing(family):
    path = saved_folders.folder(family)
    card, denoiser, network = zoo.card(path), zoo.load(path), plain(family)
    x, index, label = rows(card)
    names, seen_by_hooks = list(sites(card, denoiser)), {}
    for name in names:
        network.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: seen_by_hooks.__setitem__(name, copied_output(out))
        )
    with torch.no_grad():
        bare = denoiser(x, index, label)
        network(x, index, class_labels=label)
        with tapping(denoiser, names) as seen:
            listened = denoiser(x, index, label)
    assert torch.equal(bare, listened)
    for name in names:
        plain_one = seen_by_hooks[name]
        place = denoiser.places.get(name)
        plain_one = plain_one[place.select] if place and place.select is not None else plain_one
        if place and place.grid:
            # Token k lies in row k // x and column k % x.
            y, width = place.grid
            assert seen[name].shape[2:] == (y, width)
            for token in (0, 1, width, y * width - 1):
                assert torch.equal(seen[name][:, :, token // width, token % width], plain_one[:, token])
        else:
            assert torch.equal(seen[name], plain_one)


def test_an_edit_of_tokens_reaches_the_place_on_the_grid_that_it_names():
    path = saved_folders.folder("DiTTransformer2DModel")
    card, denoiser = zoo.card(path), zoo.load(path)
    x, index, label = rows(card)

    def at_one_place(a):
        new = a.clone()
        new[:, :, 1, 2] = 7.0
        return new

    layer = "transformer_blocks.0"
    caught = {}
    following = denoiser.module.transformer_blocks[1]
    handle = following.register_forward_pre_hook(lambda module, given: caught.update(x=given[0].clone()))
    with torch.no_grad(), tapping(denoiser, layer, edits={layer: at_one_place}) as seen:
        denoiser(x, index, label)
    handle.remove()
    assert (seen[layer][:, :, 1, 2] == 7.0).all()
    assert (caught["x"][:, 1 * 4 + 2] == 7.0).all()
    assert (caught["x"] == 7.0).sum() == 8 * 16


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_a_batch_know_nothing_of_each_other(family):
    path = saved_folders.folder(family)
    card, denoiser = zoo.card(path), zoo.load(path)
    x, index, label = rows(card)
    with torch.no_grad():
        among = denoiser(x, index, label)
        order = torch.tensor([5, 2, 7, 0, 1, 3, 4, 6])
        assert torch.equal(denoiser(x[order], index[order], label[order]), among[order])


def test_identity_follows_weights_and_configuration_and_not_the_path(copied, tmp_path):
    identity = zoo.identity(saved_folders.folder("UNet2DModel"))
    assert zoo.identity(copied) == identity
    assert (
        zoo.identity(saved_folders.save_unet(tmp_path / "v", DDPMScheduler(prediction_type="v_prediction")))
        != identity
    )
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert zoo.identity(copied) != identity


@pytest.mark.parametrize(("asked", "schedule"), [
    ({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, "scaled_linear"),
    ({"beta_schedule": "squaredcos_cap_v2"}, "cosine"),
    ({"beta_start": 0.0015, "beta_end": 0.0195}, "linear(0.0015, 0.0195)"),
])  # fmt: skip
def test_the_schedule_is_the_folders(tmp_path, asked, schedule):
    from flowprofile.time.schedule import schedule as named

    scheduler = DDIMScheduler(**asked)
    card = zoo.card(saved_folders.save_unet(tmp_path / "model", scheduler))
    assert card.schedule == schedule
    ours = [named(schedule).alpha_bar(t + 1) for t in range(1000)]
    assert torch.allclose(torch.tensor(ours), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("name", "content", "told"), [
    ("unet/diffusion_pytorch_model.bin", b"\x80\x02", "diffusion_pytorch_model.bin is a pickle"),
    ("vae/weights.ckpt", b"PK", "weights.ckpt is a pickle"),
    ("unet/my_unet.py", b"import os", "my_unet.py is code"),
    ("pipeline.py", b"import os", "pipeline.py is code"),
])  # fmt: skip
def test_anything_that_could_run_is_a_refusal_wherever_it_lies(copied, name, content, told):
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).write_bytes(content)
    with pytest.raises(ModelError, match=told) as caught:
        zoo.card(copied)
    assert "move" in str(caught.value)


@pytest.mark.parametrize("name", [
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json",
])  # fmt: skip
def test_a_missing_part_is_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(ModelError, match=Path(name).name) as caught:
        zoo.card(copied)
    assert "save_pretrained" in str(caught.value)


def changed(path, **values):
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, **values}))


def test_another_architecture_is_named_with_what_to_do(copied):
    changed(copied / "unet" / "config.json", _class_name="UNet1DModel")
    with pytest.raises(ModelError, match="UNet1DModel") as caught:
        zoo.card(copied)
    assert "did you mean" in str(caught.value)
    assert "flowprofile.denoiser" in str(caught.value)


def test_weights_of_another_size_are_refused_from_their_header(copied):
    changed(copied / "unet" / "config.json", block_out_channels=[16, 64])
    with pytest.raises(ModelError, match=r"safetensors do not fit .*config\.json") as caught:
        sites(zoo.card(copied), str(copied))
    assert "32" in str(caught.value)
    assert "64" in str(caught.value)
    with pytest.raises(ModelError, match="do not fit"):
        zoo.load(copied)


@pytest.mark.parametrize("values", [{"trained_betas": [0.1, 0.2]}, {"beta_schedule": "sigmoid"},
                                    {"rescale_betas_zero_snr": True}, {"prediction_type": "flow_prediction"}])  # fmt: skip
def test_a_schedule_that_is_not_known_is_a_refusal(copied, values):
    changed(copied / "scheduler" / "scheduler_config.json", **values)
    with pytest.raises(ModelError, match=next(iter(values))):
        zoo.card(copied)


@pytest.mark.parametrize("text", ["[]", "{", "null", '{"a": ' * 2000, "x" * (2**20 + 1)])
def test_a_configuration_that_is_none_is_a_refusal(copied, text):
    (copied / "unet" / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        zoo.card(copied)


def test_weights_in_numbered_parts_are_one_model(tmp_path):
    network = saved_folders.unet()
    network.save_pretrained(tmp_path, max_shard_size="60KB")
    DDPMScheduler().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    x, index, label = rows(zoo.card(tmp_path))
    with torch.no_grad():
        assert torch.equal(zoo.load(tmp_path)(x, index, label), network(x, index, class_labels=label).sample)
    index_file = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    changed(index_file, weight_map={"conv_in.weight": "../elsewhere.safetensors"})
    with pytest.raises(ModelError, match="outside its folder"):
        zoo.card(tmp_path)


def test_a_folder_under_another_name_is_the_same_model_and_joins_its_run(tmp_path):
    saved_folders.save_unet(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second")

    def run(name, seeds, **options):
        table = {
            "model": str(tmp_path / name),
            "cases": {"seeds": seeds, "labels": [0]},
            "sampler": {"steps": 3},
        }
        definition = fp.Pipeline.model_validate({**table, "stages": {"trajectory": {}}})
        return running.run(definition, into=tmp_path / "store", **options)

    begun = run("first", [0, 1])
    again = run("second", [0, 1])
    assert (again.run, again.forwards, again.bytes) == (begun.run, 0, 0)
    grown = run("second", [0, 1, 2], cluster="processes:1")
    assert (grown.run, grown.forwards) == (begun.run, 3)
    tree = fp.open(tmp_path / "store")
    assert tree["trajectory"]["x_t"].sizes["seed"] == 3
    assert begun.run.startswith("first@")
    # Neither place may change its weights unnoticed.
    for name in ("first", "second"):
        shutil.rmtree(tmp_path / name)
        saved_folders.save_unet(tmp_path / name, layers_per_block=2)
        with pytest.raises(StoreError, match="have changed"):
            run(name, [0])
