"""Maps by word: the shares that are stored, over the picture they belong to, each under its own word."""

import shutil

import numpy as np
import pytest
import saved_folders
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

import flowprofile as fp
from flowprofile import word_figures
from flowprofile.captions import words_of
from flowprofile.cli.drawing import draw
from flowprofile.errors import DefinitionError

STEPS = {"rule": "scheduler", "steps": 6}
SIDE = 8


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def heat(figure: Figure) -> list[np.ndarray]:
    """The maps, without the pictures behind them."""
    images = figure.findobj(AxesImage)
    return [np.asarray(image.get_array()) for image in images if image.get_cmap().name == "magma"]


@pytest.fixture(scope="module")
def model():
    return saved_folders.folder("UNet2DConditionModel")


@pytest.fixture(scope="module")
def stored(model, tmp_path_factory):
    into = tmp_path_factory.mktemp("words") / "store"
    stages = {"trajectory": {}, "decoded": {"keep": "::1"}, "word_maps": {"keep": "::2"}}
    fp.profile(str(model), seeds="0:2", labels=["a cat, a dog"], into=into, stages=stages, sampler=STEPS)
    return into


def test_a_tile_is_the_share_of_its_word_at_its_state(model, stored):
    tree = fp.open(stored)
    named = fp.tokens(model, "a cat, a dog")
    figure = word_figures.words(tree, tokens=named, seed=1)
    maps = tree["word_maps"]["attention"].isel(intervention=0, label=0).sel(seed=1)
    words = words_of(named)
    assert [word for word, _ in words] == ["a", "cat", ",", "a", "dog"]
    tiles = heat(figure)
    places = [(at, t) for _, at in words for t in maps.time.values]
    assert len(tiles) == len(places)
    for tile, (at, t) in zip(tiles, places, strict=True):
        np.testing.assert_allclose(tile, maps.sel(time=t, token=at).sum("token"), rtol=1e-6)
    told = texts(figure)
    for expected in (
        "“a cat, a dog”, seed 1",
        "cat\n",
        "share of attention",
        f"t = {maps.time.values[0]}",
    ):
        assert expected in told
    least = maps.sel(time=maps.time[0], token=words[1][1]).sum("token")
    assert f"{float(least.min()):#.2g} – {float(least.max()):#.2g}" in told


def test_behind_the_maps_is_the_nearest_picture_there_is(stored):
    tree = fp.open(stored)
    times = tree["word_maps"].time.values.tolist()
    assert set(times) <= set(tree["decoded"].time.values.tolist())

    def told(tree):
        return texts(word_figures.words(tree, times=times))

    assert "\ndecoded\n" in told(tree)
    finished = tree.copy()
    finished["decoded"] = xr.DataTree(tree["decoded"].to_dataset().sel(time=[0]))
    assert "finished image,\ndecoded" in told(finished)
    del finished["decoded"]
    assert "state: three channels\nof the latents" in told(finished)
    del finished["trajectory"]
    assert "no image stored" in told(finished)


def test_words_that_are_not_known_are_numbers_and_wrong_ones_are_refused(stored):
    tree = fp.open(stored)
    figure = word_figures.words(tree)
    assert "token 0\n" in texts(figure)
    assert "and 8 more that are not drawn: token 8" in texts(figure)
    assert len(heat(figure)) == word_figures.MOST * tree["word_maps"].sizes["time"]
    with pytest.raises(DefinitionError, match="2 tokens were named, and the maps have 16"):
        word_figures.words(tree, tokens=["a</w>", "cat</w>"])
    with pytest.raises(DefinitionError, match="seed 9 is not in the profile"):
        word_figures.words(tree, seed=9)


def test_a_cell_that_is_missing_is_an_empty_tile(stored):
    tree = fp.open(stored)
    holed = tree["word_maps"].to_dataset().load().copy(deep=True)
    holed["attention"][0, 0, 0, 0] = np.nan
    nodes = xr.DataTree.from_dict({"word_maps": holed})
    whole, left = (len(heat(word_figures.words(each, seed=0))) for each in (tree, nodes))
    assert whole - left == word_figures.MOST


def test_the_figures_of_a_store_have_them_with_words_where_the_model_is_at_hand(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    stages = {"trajectory": {"keep": [0]}, "word_maps": {"keep": "::3"}}
    fp.profile(
        str(folder), seeds=[0], labels=["a cat"], into=tmp_path / "store", stages=stages, sampler=STEPS
    )
    drawn = dict(draw(str(tmp_path / "store"), tmp_path / "figures"))
    assert drawn[tmp_path / "figures" / "word_maps.png"]
    first = (tmp_path / "figures" / "word_maps.png").read_bytes()
    assert not dict(draw(str(tmp_path / "store"), tmp_path / "figures"))[
        tmp_path / "figures" / "word_maps.png"
    ]
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "figures")
    dict(draw(str(tmp_path / "store"), tmp_path / "figures"))
    assert (tmp_path / "figures" / "word_maps.png").read_bytes() != first
