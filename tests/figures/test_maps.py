"""Maps and lines of many runs: every line can be told from every other, and says what it is the mean of."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from flowprofile import figures, maps
from flowprofile.errors import DefinitionError

TIMES = np.arange(6, -1, -1)
SEEDS, LABELS = [4, 5, 6], [2, 3]
MANY = ["none", "switch@3->3", *(f"zero a[{channel}]" for channel in range(18))]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def compared(count: int = len(MANY)) -> xr.DataTree:
    """A measure of what interventions do; the switch to label 3 is run for label 2 alone."""
    names = MANY[:count]
    shape = (count, len(LABELS), len(SEEDS), len(TIMES))
    draw = np.random.default_rng(3).normal
    value, null = draw(size=shape), draw(size=shape)
    status = np.full(shape, 2)
    status[0] = status[1, 1] = 0
    found = xr.Dataset(
        {
            name: (("intervention", "label", "seed", "time"), values)
            for name, values in (("value", value), ("null", null), ("status", status))
        },
        coords={"intervention": names, "label": LABELS, "seed": SEEDS, "time": TIMES},
    )
    found["value"] = found["value"].where(found["status"] == 2)
    found["null"] = found["null"].where(found["status"] == 2)
    found["value"].attrs = {"long_name": "SSIM(x_t, x_t without the intervention)", "units": "1"}
    return xr.DataTree.from_dict({"measures/to_clean[window=5]": found})


def looks(figure: Figure) -> list[tuple[object, ...]]:
    """Colour, style, marker and filling of the lines that are no nulls."""
    return [
        (line.get_color(), line.get_linestyle(), line.get_marker(), str(line.get_markerfacecolor()))
        for line in figure.axes[0].lines
        if line.get_marker() != "None"
    ]


def test_lines_can_be_told_apart_and_what_is_not_drawn_is_named():
    figure = maps.lines(compared(), "measures/to_clean[window=5]")
    drawn = looks(figure)
    assert len(drawn) == len(set(drawn)) == maps.MOST == 16
    (legend,) = (axes.get_legend() for axes in figure.axes)
    assert not legend.get_title().get_text()
    named = [text.get_text() for text in legend.get_texts()]
    assert named[1:3] == ["zero a[0]", "zero a[1]"]
    assert named[-1] == "null: same noise, image known"
    assert len(named) == 16 + 1
    keys = [(line.get_color(), line.get_linestyle()) for line in legend.get_lines()[:16]]
    assert len(set(keys)) == 16
    (note,) = (line for line in texts(figure).splitlines() if "more" in line)
    assert note == "and 3 more that are not drawn: zero a[15], zero a[16], zero a[17]"
    few = maps.lines(compared(4), "measures/to_clean[window=5]")
    assert "more" not in texts(few)


def test_a_line_says_what_it_is_the_mean_of():
    tree = compared(4)
    figure = maps.lines(tree, "measures/to_clean[window=5]")
    named = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert named[0] == "switch@3->3 (label 2, mean of 3 seeds)"
    assert figure.axes[0].get_title(loc="left") == "mean of 2 labels × 3 seeds"
    values = tree["measures/to_clean[window=5]"]["value"]
    switch, ablation = [line for line in figure.axes[0].lines if line.get_marker() != "None"][:2]
    np.testing.assert_allclose(switch.get_ydata(), values.sel(intervention=MANY[1], label=2).mean("seed"))
    np.testing.assert_allclose(ablation.get_ydata(), values.sel(intervention=MANY[2]).mean(["label", "seed"]))
    one = compared(4)["measures/to_clean[window=5]"].to_dataset().isel(seed=[0])
    alone = maps.lines(xr.DataTree.from_dict({"measures/m": one}), "measures/m")
    assert alone.axes[0].get_title(loc="left") == "seed 4, mean of 2 labels"


def test_axes_say_what_they_show():
    (axes,) = maps.lines(compared(4), "measures/to_clean[window=5]").axes
    assert axes.get_ylabel() == "to_clean"
    assert axes.get_xlabel() == "t   (noise → image)"
    pair = compared(4)["measures/to_clean[window=5]"].to_dataset()
    pair = pair.rename(value="inside", null="inside_null").assign(outside=pair["value"])
    for name in ("inside", "outside"):
        pair[name].attrs["units"] = "pixel value"
    figure = maps.lines(xr.DataTree.from_dict({"measures/change": pair}), "measures/change")
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "change: inside (pixel value)",
        "change: outside (pixel value)",
    ]


def layered(interventions: int = 2) -> xr.DataTree:
    """Activations of two layers, the second of one sign; a distance between steps; states."""
    draw = np.random.default_rng(5).normal
    cases = {"intervention": MANY[:interventions], "label": LABELS, "seed": SEEDS}
    dims = (*cases, "time", "channel", "y", "x")
    shape = tuple(len(values) for values in cases.values())
    values = draw(size=(*shape, len(TIMES), 3, 4, 4))
    nodes = {}
    for layer, array in (("a", values), ("b", abs(values))):
        node = xr.Dataset({"activation": (dims, array)}, coords={**cases, "time": TIMES})
        nodes[f"activations/{layer}"] = node.assign_attrs(kind="activations")
    distance = xr.Dataset(
        {
            "value": ((*cases, "time", "layer"), draw(size=(*shape, len(TIMES), 2))),
            "status": ((*cases, "time"), np.full((*shape, len(TIMES)), 2)),
        },
        coords={**cases, "time": TIMES, "layer": ["a", "b"]},
    )
    states = xr.Dataset(
        {"x_t": (dims, values, {"pixel_range": [-1.0, 1.0]})}, coords={**cases, "time": TIMES}
    )
    curves = distance[["value"]].isel(layer=0)
    return xr.DataTree.from_dict(
        {**nodes, "measures/d": distance, "measures/c": curves, "trajectory": states}
    )


def test_maps_name_their_sample_and_their_colours():
    tree = layered()
    figure = maps.maps(tree, ["activations/a", "activations/b"], seed=5, label=3, intervention=MANY[1])
    told = texts(figure)
    for expected in (
        "label 3, seed 5, switch@3->3",
        "each tile has a scale of its own",
        "sum over channels, 4 × 4",
        "−max",
        "0\n",
        "t = 6",
    ):
        assert expected in told
    # Beside the bars of the two scales, which are one row of colours each.
    shown = [np.asarray(image.get_array()) for image in figure.findobj(AxesImage)]
    tiles = [image for image in shown if image.shape == (4, 4)]
    assert len(shown) - len(tiles) == 2
    for tile, (layer, t) in zip(tiles, [(layer, t) for layer in "ab" for t in TIMES], strict=True):
        sample = tree[f"activations/{layer}"]["activation"].sel(intervention=MANY[1], label=3, seed=5, time=t)
        np.testing.assert_allclose(tile, sample.sum("channel"))
    assert "label 2, seed 4, nothing done to the model" in texts(maps.maps(tree, ["activations/b"]))
    assert "−max" not in texts(maps.maps(tree, ["activations/b"]))
    assert "grey" not in told
    tree["activations/b"] = xr.DataTree(tree["activations/b"].to_dataset().isel(time=slice(2)))
    assert "; grey: not stored" in texts(maps.maps(tree, ["activations/a", "activations/b"]))


def test_columns_of_maps_are_equally_far_apart_and_end_with_the_image():
    assert maps._columns(
        [950, 900, 850, 800, 750, 700, 650, 600, 550, 500, 450, 400, 350, 300, 250, 200, 150, 100, 50, 0]
    ) == [*range(900, -1, -100)]
    assert maps._columns([3, 2, 1, 0]) == [3, 2, 1, 0]
    every = maps._columns(range(1000, -1, -1))
    assert (len(every), set(np.diff(every)), every[-1]) == (11, {-91}, 0)


def test_rows_of_a_volume_say_of_how_many_pixels_they_are():
    values = np.random.default_rng(3).normal(size=(1, 1, 1, 2, 2, 4, 4))
    node = xr.Dataset(
        {"gradient": (("intervention", "label", "seed", "time", "pixel", "y", "x"), values)},
        coords={
            "intervention": ["none"],
            "label": [0],
            "seed": [0],
            "time": [1, 0],
            "pixel": [5, 6],
            "y": range(4),
            "x": range(4),
            "pixel_y": ("pixel", [1, 1]),
            "pixel_x": ("pixel", [1, 2]),
        },
    ).assign_attrs(kind="gradient_volume")
    figure = maps.maps(xr.DataTree.from_dict({"gradients/volume": node}), ["gradients/volume"])
    assert "off-diagonal rows of 2 pixels,\nroot of sum of squares, 4 × 4" in texts(figure)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"intervention": "switch@4->3"}, "did you mean 'switch@3->3'"),
        ({"label": 7}, "label 7 is not in the profile"),
        ({"seed": 1}, "seed 1 is not in the profile"),
    ],
)
def test_a_sample_that_is_not_held_is_refused(choice, words):
    with pytest.raises(DefinitionError, match=words):
        maps.maps(layered(), ["activations/a"], **choice)


def test_where_others_are_held_a_picture_says_that_it_shows_the_clean_runs():
    """Without other runs there is nothing to say."""
    for count in (1, 2):
        tree = layered(count)
        drawn = [
            maps.lines(tree, "measures/d"),
            figures.trajectories(tree, "c"),
            figures.strip(tree),
        ]
        assert ["clean runs only" in texts(figure) for figure in drawn] == [count > 1] * 3
    changed = figures.strip(layered(2), intervention=MANY[1])
    assert MANY[1] in texts(changed)
    with pytest.raises(DefinitionError, match="not in the profile"):
        figures.strip(layered(1), intervention=MANY[1])
