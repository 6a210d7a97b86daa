"""The thesis' two questions about labels, asked of three networks that learned the same faces.

    flowprofile train faces32-unet2d && flowprofile train faces32-dit      # half an hour on a core
    python -m benchmarks.architectures faces32=faces32 U-Net2D=out/train/faces32-unet2d/faces32-unet2d \\
        DiT=out/train/faces32-dit/faces32-dit --from out/three --into docs/findings

Runs whatever `--from` does not hold yet, prints every figure with its interval, and writes the curves as CSV and one
picture, which `--draw docs/findings` draws again from that CSV alone. A network whose samples show their label in fewer than 80 % of the cases answers nothing: it is "inconclusive".
The sampler takes 200 of the 1000 steps (docs/findings.md says what that moves).
"""

import argparse
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import flowprofile as fp
from benchmarks.curves_file import Band, Numbers, read, rows, write
from benchmarks.findings import plain
from flowprofile.figures import DASHED, FAINT, INK, TIME_TOLD, colour_of, style
from flowprofile.models import fidelity, reader, zoo
from flowprofile.report.carrying import Orders, Section, sections
from flowprofile.report.items import items

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTING, SWITCHING = "fig-5.13", "fig-5.17"
PAIR, NULL, LEFT = (
    "1 - SSIM of two labels",
    "1 - SSIM of two known pictures",
    "share of a switch's effect left",
)
"""The curves of a network, by their names in the file."""
SHIPPED: Final = "faces32"
STEPS: Final = 200
SAMPLES: Final = 256
LEAST: Final = 0.8
"""Share of samples that must show their whole label."""
ATTENTION: Final[Mapping[str, str]] = {
    "unet": "*.fn",
    "UNet2DModel": "*attentions.?",
    "DiTTransformer2DModel": "*.attn1",
}
"""Where each class has its attention branches."""


@dataclass(frozen=True)
class Answers:
    """One network."""

    name: str
    shown: Mapping[str, Any]
    """Its measured fidelity."""
    sections: Mapping[str, Section]
    times: Numbers
    pair: Numbers
    """1 - SSIM of the two labels, [seed time]."""
    null: Numbers
    """The same of two known pictures."""
    at: Numbers
    """States of the switches."""
    left: Numbers
    """Share of the earliest switch's effect that is left, [seed switch]."""


def answered(
    name: str,
    model: str,
    folder: Path,
    *,
    cluster: str | None = None,
    steps: int = STEPS,
    samples: int = SAMPLES,
    fewer: Sequence[str] = (),
) -> Answers:
    """What a network answers, computing what the folder does not hold; `fewer` overrides what both definitions say."""
    card = zoo.card(model)
    asked = {
        PARTING: (
            "cases.labels=[6, 7]",
            f'stages.attention_distance.layers="{ATTENTION[card.architecture]}"',
        ),
        SWITCHING: ("cases.labels=[6]", "interventions.lipstick.to=7"),
    }
    found = {}
    for item, own in asked.items():
        used = (f"model={model}", f"sampler.steps={steps}", *own, *fewer)
        chosen = items([f"thesis/{item}"], overrides=used)
        orders = Orders(folder / name, overrides=used, cluster=cluster)
        (found[item],) = sections(chosen, orders, lambda told: contextlib.nullcontext(lambda event: None))
        if found[item].failure is not None:
            raise SystemExit(f"{name}: {found[item].failure}")
    judge = reader.load("faces32")
    shown = fidelity.measure(zoo.load(model), judge, n=samples, sampler="ddpm", transitions=steps)
    node = fp.open(folder / name / PARTING)["measures/label_ssim"]
    pair = {"label": int(node["label"][0]), "other_label": int(node["other_label"][1])}
    ends = 1 - fp.open(folder / name / SWITCHING)["measures/to_original"]["value"].isel(label=0, time=0)
    switches = ends.isel(intervention=ends["kind"].values == "switch")
    switches = switches.isel(intervention=np.argsort(-switches["switch_step"].values))
    effects = np.asarray(switches.transpose("seed", "intervention").values, np.float64)
    return Answers(
        name=name,
        shown=shown,
        sections=found,
        times=node["time"].values.astype(np.float64),
        pair=1 - plain(node["value"].sel(pair)),
        null=1 - plain(node["null"].sel(pair)),
        at=switches["switch_step"].values.astype(np.float64),
        left=effects / effects[:, :1],
    )


def told(found: Answers) -> Iterator[str]:
    """What a network says, line by line."""
    share, (low, high) = found.shown["fidelity"], found.shown["interval"]
    conclusive = share >= LEAST
    yield (
        f"{found.name}: {share:.1%} of {found.shown['n']} samples ({found.shown['sampler']}) show their whole label,"
        f" 95 % {low:.1%} to {high:.1%}{'' if conclusive else ': INCONCLUSIVE, less than 80 %'};"
        f" by part {dict(found.shown['parts'])}"
    )
    for item, section in found.sections.items():
        verdict = section.verdict
        assert verdict is not None
        outcome = verdict.outcome if conclusive else "inconclusive"
        yield f"  {item}, n = {verdict.n}: {outcome}. {verdict.sentence}"
        for row in verdict.rows:
            one = row.estimate
            yield f"    {row.name}: {one.mean:.4g} [{one.lower:.4g}, {one.upper:.4g}] {row.unit}"


def write_curves(found: Sequence[Answers], path: Path) -> None:
    """Means and pointwise 95 % intervals as CSV."""
    lines = [
        line
        for one in found
        for curve, values, times in (
            (PAIR, one.pair, one.times),
            (NULL, one.null, one.times),
            (LEFT, one.left, one.at),
        )
        for line in rows(one.name, curve, values, times)
    ]
    write(path, "network", lines)


def draw(curves: Path, path: Path) -> None:
    """Both questions, a colour for each network, from the curves that are kept."""
    from matplotlib.figure import Figure

    held = read(curves)
    names = list(dict.fromkeys(name for name, _ in held))
    with style():
        figure = Figure(figsize=(8.8, 4.6), layout="constrained")
        parting, switching = figure.subplots(1, 2)
        for number, name in enumerate(names):
            told = f"{name} (the shipped U-Net)" if name == SHIPPED else name
            _band(parting, held[name, PAIR], number, told)
            null = held[name, NULL]
            parting.plot(null.times, null.mean, color=colour_of(number), **_dashes(number, len(names)))
            _band(switching, held[name, LEFT], number, told, marker="o")
        parting.plot(
            [], [], color=FAINT, label="dashed: its null, two known\npictures on the same noise", **DASHED
        )
        _level(parting, 0.05)
        _level(switching, 0.1)
        _words(
            parting,
            "When two labels part",
            "1 − SSIM of 0110 and 0111 (one bit: lipstick)",
            legend="upper left",
        )
        parting.set_xlabel(f"{TIME_TOLD}\na curve below its dashes parts later than its null")
        _words(
            switching,
            "Until when the label counts",
            "share left of what a switch at t = 900 changes",
            legend="center left",
        )
        switching.set_xlabel(
            "label switched from 0110 to 0111 at t\na curve further left or below is settled earlier"
        )
        n = next(iter(held.values())).n
        below = (
            f"bands: 95 % interval of the mean at each t, n = {n} seeds; a chain of {STEPS} of the 1000 steps"
        )
        figure.supxlabel(below, fontsize=8, color=FAINT, x=0.01, ha="left")
        figure.savefig(path, dpi=140)


def _dashes(number: int, count: int) -> Mapping[str, Any]:
    """A null in turn with the others': where they are one curve all of them are seen."""
    dash = 3.0
    return {"linewidth": 1.1, "linestyle": (number * dash, (dash, dash * max(1, count - 1)))}


def _level(panel: "Axes", level: float) -> None:
    panel.axhline(
        level, color=FAINT, linewidth=1, linestyle=":", label=f"{level}: the level that is asked about"
    )


def _words(panel: "Axes", title: str, along: str, *, legend: str) -> None:
    panel.set_title(title, fontsize=10, color=INK, loc="left", weight="bold")
    panel.set(ylabel=along, xlim=(1000, -10))
    panel.legend(frameon=False, fontsize=8, loc=legend)


def _band(axes: "Axes", band: Band, number: int, label: str, **how: Any) -> None:
    colour = colour_of(number)
    axes.plot(band.times, band.mean, color=colour, linewidth=1.4, markersize=3, label=label, **how)
    axes.fill_between(band.times, band.lower, band.upper, color=colour, alpha=0.18, linewidth=0)


def main() -> None:
    """Ask every network, print, write and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NAME=MODEL")
    parser.add_argument("--from", dest="folder", type=Path, help="where the stores are")
    parser.add_argument(
        "--draw", type=Path, help="draw again what a folder's architectures.csv holds; nothing else"
    )
    parser.add_argument("--into", type=Path, help="where architectures.csv and architectures.png go")
    parser.add_argument("--cluster", help="who computes, for instance local:2")
    options = parser.parse_args()
    if options.draw is not None:
        return draw(options.draw / "architectures.csv", options.draw / "architectures.png")
    if options.folder is None or not options.networks:
        parser.error("name at least one network, and with --from where the stores are")
    found = []
    for network in options.networks:
        name, _, model = network.partition("=")
        found.append(answered(name, model, options.folder, cluster=options.cluster))
        for line in told(found[-1]):
            print(line, flush=True)
    if options.into is not None:
        options.into.mkdir(parents=True, exist_ok=True)
        write_curves(found, options.into / "architectures.csv")
        draw(options.into / "architectures.csv", options.into / "architectures.png")
    return None


if __name__ == "__main__":
    main()
