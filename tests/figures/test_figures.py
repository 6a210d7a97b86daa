"""Figures show the data as they are: pixels, curves and nulls are looked for in what was drawn."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage, imread

from flowprofile import figures
from flowprofile.errors import DefinitionError

CURVE = ("intervention", "label", "seed", "time")
TIMES = np.arange(20, -1, -1)
BITS = {"male": [True, True], "smile": [False, True]}


@pytest.fixture
def tree() -> xr.DataTree:
    """A small profile of random states and curves, of the form in which a store is opened."""
    draw = np.random.default_rng(7).normal
    coords = {"intervention": ["none"], "label": [2, 3], "seed": [4, 5, 6]}
    bits = {name: ("label", on) for name, on in BITS.items()}
    x_t = xr.DataArray(
        draw(size=(1, 2, 3, 21, 3, 6, 5)).astype(np.float32),
        dims=(*CURVE, "channel", "y", "x"),
        coords={**coords, **bits, "time": TIMES, "generative_step": ("time", 20 - TIMES)},
        attrs={"pixel_range": [-1.0, 1.0]},
    )
    curves = xr.Dataset(
        {name: (CURVE, draw(loc, 0.1, (1, 2, 3, 20))) for name, loc in (("value", 3), ("null", 2))},
        coords={**coords, **bits, "time": TIMES[1:], "generative_step": ("time", 20 - TIMES[1:])},
    )
    curves["value"].attrs = {"long_name": "SSIM(x_t, x_{t+1})", "units": "1"}
    nodes = {"trajectory": x_t.to_dataset(name="x_t"), "measures/step_ssim": curves}
    return xr.DataTree.from_dict({**nodes, "measures/mine": curves[["value"]]})


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.findobj(AxesImage)]


def test_a_strip_shows_the_states_themselves(tree):
    figure = figures.strip(tree, seeds=[6, 4], labels=[3], times=[0, 20, 10])
    shown = images(figure)
    assert len(shown) == 2 * 3
    for image, (seed, t) in zip(shown, [(s, t) for s in (6, 4) for t in (20, 10, 0)], strict=True):
        state = tree["trajectory"]["x_t"].sel(intervention="none", label=3, seed=seed, time=t)
        np.testing.assert_allclose(
            image, (state.transpose("y", "x", "channel").clip(-1, 1) + 1) / 2, atol=1e-6
        )
    for expected in ("male\nsmile", "seed 6", "seed 4", "t = 20", "noise", "image"):
        assert expected in texts(figure)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([20, 10, 0], {"noise", "image"}),
        ([20, 10], {"noise"}),
        ([15, 0], {"image"}),
        ([15, 10], set()),
        ([20], {"noise"}),
        ([0], {"image"}),
    ],
)
def test_only_the_first_state_is_noise_and_only_the_last_image(tree, kept, words):
    told = texts(figures.strip(tree, seeds=[4], labels=[2], times=kept)).split("\n")
    assert {"noise", "image"} & set(told) == words
    part = xr.DataTree.from_dict({"trajectory": tree["trajectory"].to_dataset().sel(time=kept)})
    told = texts(figures.strip(part, seeds=[4], labels=[2])).split("\n")
    assert {"noise", "image"} & set(told) == words, "whatever else the profile holds"
    alone = xr.DataTree.from_dict(
        {"trajectory": part["trajectory"].to_dataset().drop_vars("generative_step")}
    )
    told = texts(figures.strip(alone, seeds=[4], labels=[2])).split("\n")
    assert not {"noise", "image"} & set(told), "times that are no sampler's"


def test_a_strip_chooses_for_itself_and_stays_small(tree):
    figure = figures.strip(tree)
    assert len(images(figure)) == 2 * 3 * 11
    many = tree["trajectory"].to_dataset().isel(seed=[0] * 50, label=[0] * 9)
    many = many.assign_coords(seed=np.arange(50), label=np.arange(9))
    for labels, seeds in ((9, 1), (4, 2), (1, 4)):
        part = xr.DataTree.from_dict({"trajectory": many.isel(label=slice(labels))})
        assert len(images(figures.strip(part, times=[20, 0]))) == min(labels, 8) * seeds * 2


def test_a_missing_state_is_an_empty_panel_and_no_picture(tree):
    states = tree["trajectory"]["x_t"].copy()
    states[0, 0, 0, 0] = np.nan
    holed = xr.DataTree.from_dict({"trajectory": states.to_dataset(name="x_t")})
    figure = figures.strip(holed, seeds=[4], labels=[2], times=[20, 0])
    assert len(images(figure)) == 1
    assert len(figure.axes[0].child_axes) == 2
    assert "grey: not stored" in texts(figure)
    assert "grey" not in texts(figures.strip(tree, seeds=[4], labels=[2], times=[20, 0]))


@pytest.mark.parametrize("rule", ["EulerDiscreteScheduler", "DDIMScheduler"])
def test_states_that_grow_with_their_noise_are_shown_as_the_network_sees_them(tree, rule):
    sigma = np.linspace(157.0, 0.0, 21)
    data = tree["trajectory"].to_dataset().assign_coords(sigma=("time", sigma))
    if rule == "EulerDiscreteScheduler":
        grown = (data["x_t"] * np.sqrt(1 + data["sigma"] ** 2)).assign_attrs(data["x_t"].attrs)
        data = data.assign(x_t=grown.transpose(*data["x_t"].dims))
    made = xr.DataTree.from_dict({"trajectory": data.assign_attrs(sampler={"rule": rule})})
    chosen = {"seeds": [4], "labels": [2], "times": [20, 10, 0]}
    for image, want in zip(
        images(figures.strip(made, **chosen)), images(figures.strip(tree, **chosen)), strict=True
    ):
        np.testing.assert_allclose(image, want, atol=1e-5)
    assert ("√(1 + σ²)" in texts(figures.strip(made, **chosen))) == (rule == "EulerDiscreteScheduler")


def test_a_written_strip_is_nearest_and_unstretched(tree, tmp_path):
    """In the file, each pixel of a state is a flat block of its own colour."""
    figure = figures.strip(tree, seeds=[4], labels=[2], times=[0])
    figures.save(figure, tmp_path / "strip.png", stamp="s")
    drawn = imread(tmp_path / "strip.png")
    panel = figure.axes[0].child_axes[0].get_window_extent().bounds
    scale = 200 / figure.dpi
    left, bottom, wide, high = (side * scale for side in panel)
    want = figures.pixels(tree["trajectory"]["x_t"]).sel(intervention="none", label=2, seed=4, time=0).values
    for y in range(6):
        for x in range(5):
            row = round(drawn.shape[0] - bottom - high + (y + 0.5) * high / 6)
            column = round(left + (x + 0.5) * wide / 5)
            np.testing.assert_allclose(drawn[row, column, :3], want[y, x], atol=1 / 128)


def test_a_trajectory_draws_mean_band_null_and_excess(tree):
    figure = figures.trajectories(tree, "step_ssim")
    upper, lower = figure.axes[1:3]
    curves = tree["measures/step_ssim"].to_dataset().sel(intervention="none", label=2)
    null, mean = upper.lines
    np.testing.assert_allclose(null.get_ydata(), curves["null"].mean("seed"))
    np.testing.assert_allclose(mean.get_ydata(), curves["value"].mean("seed"))
    np.testing.assert_allclose(lower.lines[-1].get_ydata(), (curves["value"] - curves["null"]).mean("seed"))
    edges = upper.collections[-1].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(edges.max(), curves["value"].quantile(0.9, "seed").max())
    np.testing.assert_allclose(edges.min(), curves["value"].quantile(0.1, "seed").min())
    assert upper.get_xlim() == lower.get_xlim() == (20, 0)
    for expected in ("step_ssim", "SSIM($x_{t}$, $x_{t+1}$)", "male + smile", "excess", "null"):
        assert expected in texts(figure)


def test_a_curve_of_very_many_states_is_thin_under_its_running_mean_and_the_null_lies_above(tree):
    times = np.arange(300)[::-1]
    draw = np.random.default_rng(8).normal
    curves = xr.Dataset(
        {name: (CURVE, draw(size=(1, 1, 3, 300))) for name in ("value", "null")},
        coords={"intervention": ["none"], "label": [2], "seed": [4, 5, 6], "time": times},
    )
    figure = figures.trajectories(xr.DataTree.from_dict({"measures/step_ssim": curves}), "step_ssim")
    null, thin, thick = figure.axes[1].lines
    mean = curves["value"].mean("seed").values.ravel()
    np.testing.assert_allclose(thin.get_ydata(), mean)
    assert thick.get_ydata()[100] == pytest.approx(mean[75:126].mean())
    assert np.isnan(thick.get_ydata()[:25]).all(), "a mean of fewer states is another curve"
    assert null.get_zorder() > thick.get_zorder()
    assert null.get_linestyle() == "--"
    assert thin.get_linewidth() < thick.get_linewidth()
    assert len(figure.axes[1].collections) == 1, "a band of the null would tint that of the values"
    assert "thick: running mean of 51 states" in texts(figure)
    places = {tick.label1.get_horizontalalignment() for tick in figure.axes[2].xaxis.get_major_ticks()}
    assert places == {"center"}


def test_attributes_stand_in_the_order_of_the_bits_where_it_is_known(tree):
    curves = tree["measures/step_ssim"].to_dataset()
    turned = xr.DataTree.from_dict(
        {"measures/step_ssim": curves.drop_vars("male").assign_coords(male=curves["male"])}
    )
    assert "smile + male" in texts(figures.trajectories(turned, "step_ssim"))
    turned.attrs["model"] = {"attributes": ["male", "smile"]}
    assert "male + smile" in texts(figures.trajectories(turned, "step_ssim"))


def test_a_state_without_a_value_is_left_out_and_a_hole_is_skipped(tree):
    curves = tree["measures/step_ssim"].to_dataset().copy(deep=True)
    curves["value"][:, :, 0, 3] = np.nan
    curves["null"][:, :, :, 7] = np.nan
    figure = figures.trajectories(xr.DataTree.from_dict({"measures/step_ssim": curves}), "step_ssim")
    null, mean = figure.axes[1].lines
    assert (len(null.get_xdata()), len(mean.get_xdata())) == (19, 20)
    one = curves["value"].sel(intervention="none", label=2, time=TIMES[4])
    assert mean.get_ydata()[3] == pytest.approx(float(one.isel(seed=[1, 2]).mean()))


def test_a_measure_of_ones_own_without_a_null_is_drawn_alone(tree):
    figure = figures.trajectories(tree, "mine", labels=[3])
    assert len(figure.axes) == 2
    assert "null" not in texts(figure)


def test_a_single_seed_and_many_labels_are_drawn(tree):
    curves = tree["measures/step_ssim"].to_dataset().isel(seed=[0]).drop_vars(list(BITS))
    many = curves.isel(label=[0] * 20).assign_coords(label=np.arange(20))
    figure = figures.trajectories(xr.DataTree.from_dict({"measures/step_ssim": many}), "step_ssim")
    assert len(figure.axes) == 1 + 2 * 16
    assert "one seed" in texts(figure)
    assert "label 15" in texts(figure)
    assert not figure.axes[1].collections


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda tree: figures.trajectories(tree, "step_sim"), "did you mean 'step_ssim'"),
        (lambda tree: figures.trajectories(tree, "mine", labels=[9]), r"label 9 is not .*\n.*\n.*\[2, 3\]"),
        (lambda tree: figures.strip(tree, times=[21]), r"time 21 is not .*\n.*\n.*20\]"),
        (lambda tree: figures.strip(tree, seeds=[]), "No seed was chosen"),
        (lambda tree: figures.strip(tree["measures"]), "has no 'trajectory'"),
    ],
)
def test_a_wrong_choice_teaches(tree, draw, message):
    with pytest.raises(DefinitionError, match=message):
        draw(tree)


def test_a_measure_without_any_value_says_so(tree):
    empty = (tree["measures/mine"].to_dataset() * np.nan).assign_coords(time=TIMES[1:])
    with pytest.raises(DefinitionError, match="has no value yet"):
        figures.trajectories(xr.DataTree.from_dict({"measures/mine": empty}), "mine")


def test_a_stamp_comes_back_without_matplotlib(tree, tmp_path):
    path = tmp_path / "folder" / "figure.png"
    figures.save(figures.strip(tree), path, stamp="first@1f")
    program = f"""
import sys
from flowprofile.figures import stamp_of
print(stamp_of({str(path)!r}), "matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["first@1f", "False"]
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]
    with pytest.raises(DefinitionError, match="printable ASCII"):
        figures.save(figures.strip(tree), path, stamp="é")


def test_what_is_no_png_of_ours_has_no_stamp(tmp_path):
    whole = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0etEXtflowprofile\0ab????"
    for name, content in {
        "text": b"hello",
        "empty": b"",
        "cut": whole[:14],
        "zero": whole[:8] + bytes(40),
    }.items():
        path = Path(tmp_path / name)
        path.write_bytes(content)
        assert figures.stamp_of(path) is None
    (tmp_path / "whole").write_bytes(whole)
    assert figures.stamp_of(tmp_path / "whole") == "ab"
    assert figures.stamp_of(tmp_path / "absent") is None


def test_the_same_profile_is_drawn_into_the_same_bytes(tree, tmp_path):
    for name in ("a", "b"):
        figures.save(figures.trajectories(tree, "step_ssim"), tmp_path / name, stamp="s")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_images_with_labels_of_their_own_are_shown_under_these_alone():
    coords = {"intervention": ["none"], "label": [0, 1, 2], "seed": [7, 8, 9, 11], "time": [1, 0]}
    beside = {"image": ("seed", ["b.png", "a.png", "a.png", "c_is_a_long_name_of_a_file.png"])}
    coords |= beside | {"draw": ("seed", [0, 0, 1, 0]), "generative_step": ("time", [1, 2])}
    asked = np.zeros((1, 3, 4, 2), np.int8)
    asked[0, 0, 0], asked[0, 2, 1:] = 2, 2
    values = np.where(asked == 2, np.arange(4)[:, None] / 4, np.nan)[..., None, None, None]
    x0 = (("intervention", "label", "seed", "time", "channel", "y", "x"), values, {"pixel_range": [0.0, 1.0]})
    data = xr.Dataset({"x0_hat": x0, "status": (CURVE, asked)}, coords=coords, attrs={"kind": "predicted_x0"})
    figure = figures.strip(xr.DataTree.from_dict({"predicted_x0": data}), node="predicted_x0")
    # The image of label 0, then those of label 2, every one before its second draw.
    assert [float(image.mean()) for image in images(figure)] == [0, 0, 0.25, 0.25, 0.75, 0.75, 0.5, 0.5]
    told = texts(figure)
    assert "label 1" not in told
    assert "grey" not in told
    for expected in ("predicted image", "label 0", "label 2", "b.png\ndraw 0", "a.png\ndraw 1", "c_is_a_l…"):
        assert expected in told
    halves = xr.concat([data, data + 0.1], xr.Variable("guidance", ["uncond", "cond"])).assign_attrs(
        data.attrs
    )
    halves = halves.assign(status=data["status"], x0_hat=halves["x0_hat"].assign_attrs(data["x0_hat"].attrs))
    figure = figures.strip(xr.DataTree.from_dict({"predicted_x0": halves}), node="predicted_x0")
    assert float(images(figure)[0].mean()) == pytest.approx(0.1)
    assert "guidance: cond" in texts(figure)


def test_stores_of_given_images_and_of_others_activations_are_drawn_or_said_to_have_no_picture(
    tmp_path, capsys
):
    from PIL import Image
    from safetensors.numpy import save_file

    import flowprofile as fp
    from flowprofile.cli import main

    def drawn(store):
        with pytest.raises(SystemExit) as stop:
            main(["figures", str(tmp_path / store), "--into", str(tmp_path / f"figures-{store}")])
        assert not stop.value.code
        return capsys.readouterr().out

    (tmp_path / "photos").mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "photos" / "a.png")
    pictures = {"labels": [3], "sampler": {"steps": 2}, "source": {"images": str(tmp_path / "photos")}}
    inside = {"max_channel": {"layers": "*.fn"}}
    fp.profile("digits", into=tmp_path / "photo", stages={"predicted_x0": {}, **inside}, **pictures)
    assert "predicted_x0.png" in drawn("photo")
    wanted = {"model": "digits", **pictures, "cases": {"labels": pictures.pop("labels")}, "stages": inside}
    wanted.pop("labels")
    fp.run(fp.Pipeline.model_validate(wanted), into=tmp_path / "numbers")
    assert "nothing to draw" in (told := drawn("numbers"))
    assert "it holds max_channel" in told
    save_file({"mid": np.ones((1, 2, 4, 3), np.float32)}, tmp_path / "cache.safetensors")
    fp.adopt(
        str(tmp_path / "cache.safetensors"), str(tmp_path / "adopted"), dims=["case", "time", "token", "channel"],
        grid=(2, 2), timesteps=[900, 100],
    )  # fmt: skip
    assert "activations.png" in drawn("adopted")


def test_everything_inside_and_every_intervention_is_drawn(tmp_path):
    import flowprofile as fp
    from flowprofile import running
    from flowprofile.cli.drawing import draw

    mask = {"rectangle": [2, 2, 5, 5]}
    table = {
        "model": "digits",
        "sampler": {"steps": 6},
        "cases": {"seeds": "0:2", "labels": [3, 5]},
        "interventions": {
            "random": {"kind": "ablate", "layer": "mid_attn.fn", "channel": {"from": "random", "n": 3}},
            "switch": {"kind": "switch", "at": [500, 0], "to": 5},
        },
        "stages": {
            "trajectory": {},
            "activations": {"layers": "*.2.fn"},
            "attention": {},
            "max_channel": {},
            "layer_gradients": {"mask": mask, "keep": "::2"},
            "volume": {"use": "gradient_volume", "mask": mask, "keep": "::3"},
            "energy": {"use": "gradient_energy", "mask": mask, "keep": "::3"},
            "influence": {},
            "label_ssim": {"use": "ssim", "between": "labels", "window": 5},
            "layer_distance": {"layers": "*.2.fn"},
            "to_clean": {"use": "ssim", "between": "clean", "window": 5},
            "change": {"mask": mask},
        },
    }
    store = str(tmp_path / "store")
    running.run(fp.Pipeline.model_validate(table), into=store)
    drawn = {path.stem: fresh for path, fresh in draw(store, tmp_path / "figures")}
    assert set(drawn) == {
        "trajectory", "activations", "attention", "gradients-layer_gradients", "gradients-volume",
        "gradients-energy", "influence", "label_ssim", "layer_distance", "to_clean", "change",
    }  # fmt: skip
    assert all(drawn.values())
    assert not any(fresh for _, fresh in draw(store, tmp_path / "figures")), "drawn once"
