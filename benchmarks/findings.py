"""What 200 seeds of `faces32` say about four attributes: ``python -m benchmarks.findings --from FOLDER --into docs/findings``.

The folder holds the stores of `pipelines/findings`: `respaced` (labels, switches), `full` (labels-full, switches-full)
and `mixture`. Prints every estimate with its interval,
and writes the curves as CSV and pictures. Nothing here samples.

When: the onset of a pair's 1 - SSIM, beside that of two known pictures on the same noise. Until when: the last switch
of an attribute that still changes what the picture shows. Where: which share of the difference of two pictures lies in
the region that the attribute names, beside the region's area and beside what the renderer itself does to one person.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import flowprofile as fp
from benchmarks.curves_file import Numbers, Row, rows, write
from flowprofile.datasets.faces import LABELS, faces
from flowprofile.models import segmenter
from flowprofile.stats.bounds import MeanBounds, mean_bounds
from flowprofile.stats.curves import NEVER
from flowprofile.stats.families import family
from flowprofile.stats.onset import SeedOnsets, onset, onset_difference, seed_onsets
from flowprofile.stats.predetermination import Predetermination, predetermination

FIRST: Final = "0110"
"""The label that all others differ from, in one attribute each."""
REGIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "bangs": ("forehead",),
    "male": ("beard", "hair", "brows"),
    "smile": ("mouth",),
    "lipstick": ("mouth",),
}
"""What an attribute may change, by the renderer's parts."""
DELTAS: Final = (0.05, 0.1, 0.2)
JOINT: Final = 0.05 / len(REGIONS)
"""The error of each of four intervals that hold together with 95 %."""
MARGIN: Final = 50
"""Steps by which respacing may move an onset or a switch and be called equivalent."""
PERSONS: Final = 512
COLLECTION: Final = 7
"""A collection of renders from which no network has learned."""


def flipped(attribute: str) -> int:
    """The label that differs from `FIRST` in one attribute."""
    return LABELS.parse(FIRST) ^ LABELS.parse([attribute])


def unlike(tree: xr.DataTree, attribute: str) -> tuple[Numbers, Numbers, Numbers]:
    """1 - SSIM of a pair and of its null, [seed time], and the states they are at."""
    pair = {"label": LABELS.parse(FIRST), "other_label": flipped(attribute)}
    node = tree["measures"]["label_ssim"]
    return (
        1 - plain(node["value"].sel(pair)),
        1 - plain(node["null"].sel(pair)),
        node["time"].values.astype(np.float64),
    )


def plain(data: xr.DataArray) -> Numbers:
    """Values of the runs that nothing was done to, in float64."""
    return np.asarray(data.sel(intervention="none").values, np.float64)


def when(short: xr.DataTree, full: xr.DataTree) -> Iterator[str]:
    """Onsets of the four pairs, beside their nulls', and whether respacing moved them."""
    for attribute in REGIONS:
        curves, nulls, times = unlike(short, attribute)
        found = onset(curves, DELTAS, alpha=JOINT)
        null = onset(nulls, DELTAS, alpha=JOINT)
        own, other = seed_onsets(curves, DELTAS), seed_onsets(nulls, DELTAS)
        later = onset_difference(own, other, alpha=JOINT)
        for k, delta in enumerate(DELTAS):
            ahead, low, high = (spent(-each[k], times) for each in (later.mean, later.upper, later.lower))
            yield (
                f"onset {attribute:<8} delta {delta:<4}: t = {told(found.estimate[k], times)}"
                f" [{told(found.lower[k], times)}, {told(found.upper[k], times)}]"
                f"{'' if found.claimed[k] else ' (not claimed)'}; two known pictures {told(null.estimate[k], times)}: they"
                f" part {ahead:.0f} t [{low:.0f}, {high:.0f}] before the pair does, seed by seed"
                f" (n = {later.n[k]} of {len(curves)} seeds; quartiles {quartiles(own, k, times)})"
            )
        yield from _equivalent_onset(short, full, attribute)


def _equivalent_onset(short: xr.DataTree, full: xr.DataTree, attribute: str) -> Iterator[str]:
    seeds = full["seed"].values
    respaced, _, times = unlike(short.sel(seed=seeds), attribute)
    every, _, other = unlike(full, attribute)
    assert (times == other).all()
    moved = onset_difference(seed_onsets(every, DELTAS), seed_onsets(respaced, DELTAS), alpha=0.1)
    for k, delta in enumerate(DELTAS):
        ends = sorted(spent(each[k], times) for each in (moved.lower, moved.upper))
        said = "equivalent" if max(map(abs, ends)) < MARGIN else "NOT shown equivalent"
        yield (
            f"  respaced against all 1000 steps, delta {delta:<4}: onset {spent(moved.mean[k], times):+.0f} t later in"
            f" the respaced run, two one-sided 95 % bounds [{ends[0]:+.0f}, {ends[1]:+.0f}], n = {moved.n[k]} of"
            f" {len(seeds)}: {said} within {MARGIN}"
        )


def spent(steps: float, times: Numbers) -> float:
    """A difference in steps, in t."""
    return float(steps * (times[0] - times[1]))


def told(step: int, times: Numbers) -> str:
    """The state of a step."""
    return "never" if step == NEVER else f"{times[step]:.0f}"


def quartiles(onsets: SeedOnsets, k: int, times: Numbers) -> str:
    """Of the seeds' own onsets."""
    return "/".join(told(int(onsets.quantile(q)[k]), times) for q in (0.25, 0.5, 0.75))


def until(tree: xr.DataTree, full: xr.DataTree) -> Iterator[str]:
    """The switch from which on an attribute is settled."""
    for attribute in REGIONS:
        shown, unlike_, times = switched(tree, attribute)
        for name, values in (("what it shows", shown), ("1 - SSIM", unlike_)):
            yield f"settled {attribute:<8} by {name:<13}: {_said(predetermination(values, alpha=JOINT), times)}"
        yield "  share changed: " + ", ".join(
            f"{t:.0f}: {share:.3f}" for t, share in zip(times, shown.mean(0), strict=True)
        )
        yield from _equivalent_switch(tree, full, attribute)


def _said(found: Predetermination, times: Numbers) -> str:
    claim = "" if found.claimed else " (not claimed)"
    flat = "; the curve is flat about the level" if found.flat else ""
    return (
        f"from t = {told(found.estimate, times)} on [{told(found.lower, times)}, {told(found.upper, times)}]"
        f"{claim}{flat}, level {found.level}, n = {found.bounds.n}"
    )


def switched(tree: xr.DataTree, attribute: str) -> tuple[Numbers, Numbers, Numbers]:
    """Whether the attribute that is read differs from the clean run's, and 1 - SSIM to it, [seed switch]; switches."""
    bit = LABELS.parse([attribute])
    shows = (_runs(tree, "fidelity", "predicted") & bit) > 0
    chosen, times = switches(tree, f"->flip{bit:b}")
    changed = shows.sel(intervention=chosen) != shows.sel(intervention="none", drop=True)
    image = _runs(tree, "to_original", "value").sel(intervention=chosen)
    return _by_seed(changed), 1 - _by_seed(image), times


def switches(tree: xr.DataTree, ending: str) -> tuple[list[str], Numbers]:
    """Names of a kind of switch and the states they are at, in the order of generation."""
    node = tree["measures"]["fidelity"]
    steps = dict(zip(node["intervention"].values.tolist(), node["switch_step"].values.tolist(), strict=True))
    names = sorted((name for name in steps if name.endswith(ending)), key=steps.__getitem__, reverse=True)
    return names, np.array([steps[name] for name in names], np.float64)


def _runs(tree: xr.DataTree, measure: str, variable: str) -> xr.DataArray:
    return tree["measures"][measure][variable].sel(label=LABELS.parse(FIRST)).isel(time=0)


def _by_seed(data: xr.DataArray) -> Numbers:
    return np.asarray(data.transpose("seed", "intervention").values, np.float64)


def _equivalent_switch(short: xr.DataTree, full: xr.DataTree, attribute: str) -> Iterator[str]:
    seeds = full["seed"].values
    _, respaced, times = switched(short.sel(seed=seeds), attribute)
    _, every, other = switched(full, attribute)
    kept = np.isin(times, other)
    last = [_last_change(values, 0.05, grid) for values, grid in ((respaced[:, kept], other), (every, other))]
    bounds = mean_bounds((last[0] - last[1])[:, None], alpha=0.05)
    ends = float(bounds.lower[0]), float(bounds.upper[0])
    said = "equivalent" if max(map(abs, ends)) < MARGIN else "NOT shown equivalent"
    yield (
        f"  respaced against all 1000 steps: last switch that changes more than .05 of 1 - SSIM, respaced - full"
        f" {bounds.mean[0]:+.0f} t, two one-sided 95 % bounds [{ends[0]:+.0f}, {ends[1]:+.0f}], n = {len(seeds)}: {said}"
        f" within {MARGIN}"
    )


def _last_change(values: Numbers, level: float, times: Numbers) -> Numbers:
    """The smallest t at which a switch still changes more than a level, [seed]; the largest where none does."""
    above = values > level
    return np.where(above.any(1), times[values.shape[1] - 1 - above[:, ::-1].argmax(1)], times[0])


def where(tree: xr.DataTree) -> Iterator[str]:
    """How much of the difference of two finished pictures lies in the region that the label names."""
    reader = segmenter.load("faces32")
    for attribute in REGIONS:
        first, other = (_image(tree, label) for label in (LABELS.parse(FIRST), flipped(attribute)))
        region = named(reader, attribute, first, other)
        share, area = inside((first - other) ** 2, region), region.mean((1, 2))
        truth, true_area = _rendered(reader, attribute)
        bounds = mean_bounds(np.stack([share, share - area], 1), alpha=JOINT / 2)
        yield (
            f"inside {attribute:<8} ({' + '.join(REGIONS[attribute])}): {bounds.mean[0]:.3f}"
            f" [{bounds.lower[0]:.3f}, {bounds.upper[0]:.3f}] of the squared difference; its area is {area.mean():.3f} of"
            f" the picture, so {bounds.mean[1]:+.3f} [{bounds.lower[1]:+.3f}, {bounds.upper[1]:+.3f}] beyond chance;"
            f" one person rendered twice: {truth.mean():.3f} in {true_area.mean():.3f}; n = {len(share)}"
        )


def _image(tree: xr.DataTree, label: int) -> Numbers:
    images = plain(tree["trajectory"]["x_t"].sel(label=label, time=0))
    return np.clip((images + 1) / 2, 0, 1)


def named(reader: Any, attribute: str, first: Numbers, other: Numbers) -> NDArray[np.bool_]:
    """Where either picture shows a part that the attribute may change, [seed y x]."""
    parts = [reader.card.regions.index(name) for name in REGIONS[attribute]]
    masks = [reader.regions(each.astype(np.float32))[:, parts].any(1) for each in (first, other)]
    return np.asarray(masks[0] | masks[1])


def inside(squared: Numbers, region: NDArray[np.bool_]) -> Numbers:
    """Share of squared[seed channel y x] that lies in region[seed y x]."""
    return np.asarray((squared.sum(1) * region).sum((1, 2)) / squared.sum((1, 2, 3)))


def _rendered(reader: Any, attribute: str) -> tuple[Numbers, Numbers]:
    """The same of one person drawn with both labels."""
    people = range(PERSONS)
    first, other = (
        faces(COLLECTION, people, labels=[label] * PERSONS).images.astype(np.float64)
        for label in (LABELS.parse(FIRST), flipped(attribute))
    )
    region = named(reader, attribute, first, other)
    return inside((first - other) ** 2, region), region.mean((1, 2))


def belief(tree: xr.DataTree) -> Iterator[str]:
    """Where the network's predicted pictures of two labels differ on the way, and where their states do."""
    reader = segmenter.load("faces32")
    for attribute in REGIONS:
        curves = {
            name: shares(tree, reader, attribute, name, variable)
            for name, variable in (("predicted_x0", "x0_hat"), ("trajectory", "x_t"))
        }
        for name, (values, times) in curves.items():
            more = values - values[:, -1:]
            tested = family(more[:, :-1], key=1)
            bounds = mean_bounds(more, alpha=JOINT / 2)
            sure = np.flatnonzero(tested.p_familywise < JOINT)
            furthest = int(np.abs(bounds.mean).argmax())
            yield (
                f"belief {attribute:<8} {name:<12}: share in the region {values[:, 0].mean():.3f} at t = {times[0]:.0f},"
                f" {values[:, -1].mean():.3f} at {times[-1]:.0f}; {_from_end(bounds, 0, times)}; furthest from its end"
                f" {_from_end(bounds, furthest, times)}; differs from it at {len(sure)} of {len(times) - 1} states, the last"
                f" of them {times[sure[-1]] if len(sure) else np.nan:.0f} (sign-flip max-T, family-wise {JOINT:.4f})"
            )


def _from_end(bounds: MeanBounds, step: int, times: Numbers) -> str:
    return f"at t = {times[step]:.0f} {bounds.mean[step]:+.3f} [{bounds.lower[step]:+.3f}, {bounds.upper[step]:+.3f}]"


def shares(
    tree: xr.DataTree, reader: Any, attribute: str, name: str, variable: str
) -> tuple[Numbers, Numbers]:
    """Share of the difference inside the region of the *finished* pictures at every state, [seed time]."""
    labels = LABELS.parse(FIRST), flipped(attribute)
    region = named(reader, attribute, *(_image(tree, label) for label in labels))
    data = tree[name][variable].sel(intervention="none")
    times = data["time"].values
    kept = times[times < times[0]] if name == "trajectory" else times
    found = []
    for t in kept:
        first, other = (data.sel(label=label, time=t).values.astype(np.float64) for label in labels)
        found.append(inside((first - other) ** 2, region))
    return np.stack(found, 1), np.asarray(kept, np.float64)


def layers(tree: xr.DataTree) -> Iterator[str]:
    """When the layers part, by the relative distance of their activations."""
    for attribute in REGIONS:
        pair = {"label": LABELS.parse(FIRST), "other_label": flipped(attribute)}
        means = tree["measures"]["layer_distance"]["value"].sel({**pair, "intervention": "none"}).mean("seed")
        for layer in means["layer"].values.tolist():
            shown = ", ".join(
                f"{t}: {float(means.sel(layer=layer, time=t)):.3f}" for t in (900, 700, 500, 300, 100)
            )
            yield f"layers {attribute:<8} {layer}: {shown}"


def coverage(tree: xr.DataTree, size: int = 32) -> Iterator[str]:
    """How often the interval from so many seeds holds the whole pool's settled step; the exact mixture."""
    shows = tree["measures"]["fidelity"]["predicted"].isel(label=0, time=0)
    names, times = switches(tree, "->1")
    values = _by_seed(shows.sel(intervention=names) != shows.sel(intervention="none", drop=True))
    pool = predetermination(values)
    yield f"mixture, {len(values)} seeds: settled from t = {told(pool.estimate, times)} on (share changed {', '.join(f'{t:.0f}: {p:.4f}' for t, p in zip(times, values.mean(0), strict=True))})"
    for count in (size, 100, 200):
        groups = [predetermination(values[k : k + count]) for k in range(0, len(values) - count + 1, count)]
        held = [
            g.lower != NEVER and g.lower <= pool.estimate and (g.upper == NEVER or pool.estimate <= g.upper)
            for g in groups
        ]
        claimed = [g for g in groups if g.claimed]
        width = np.mean([times[g.lower] - times[g.upper] for g in claimed]) if claimed else np.nan
        naive = [g.estimate == pool.estimate for g in groups]
        yield (
            f"  {len(groups)} groups of {count}: the interval holds it in {np.mean(held):.1%}; an upper end is claimed in"
            f" {len(claimed)} of them, {width:.0f} t wide on average; the bare estimate is right in {np.mean(naive):.1%}"
        )


def write_curves(tree: xr.DataTree, into: Path) -> None:
    """Means and pointwise intervals of all curves as CSV."""
    reader = segmenter.load("faces32")
    lines: list[Row] = []
    for attribute in REGIONS:
        curves, nulls, times = unlike(tree, attribute)
        for name, values in (("pair", curves), ("null", nulls)):
            lines += rows(attribute, name, values, times)
        shown, image, at = switched(tree, attribute)
        lines += rows(attribute, "switch changes what it shows", shown, at)
        lines += rows(attribute, "switch 1 - SSIM", image, at)
        lines += rows(
            attribute, "predicted x_0, inside", *shares(tree, reader, attribute, "predicted_x0", "x0_hat")
        )
    write(into / "curves.csv", "attribute", lines)


def main() -> None:
    """Print every finding whose stores are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="folder", type=Path, required=True)
    parser.add_argument("--into", type=Path, help="where curves.csv goes")
    options = parser.parse_args()
    folders = [options.folder / name for name in ("respaced", "full", "mixture")]
    stores = {folder.name: fp.open(folder) for folder in folders if folder.is_dir()}
    for line in _all(stores):
        print(line, flush=True)
    if options.into is not None:
        from benchmarks.findings_figure import draw

        write_curves(stores["respaced"], options.into)
        draw(options.into / "curves.csv", options.into / "labels.png")


def _all(stores: Mapping[str, xr.DataTree]) -> Iterator[str]:
    if "respaced" in stores:
        respaced, full = stores["respaced"], stores["full"]
        for lines in (
            when(respaced, full),
            until(respaced, full),
            where(respaced),
            belief(respaced),
            layers(respaced),
        ):
            yield from lines
    if "mixture" in stores:
        yield from coverage(stores["mixture"])


if __name__ == "__main__":
    main()
