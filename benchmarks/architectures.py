"""The thesis' two questions about labels, asked of three networks that learned the same faces.

    flowprofile train faces32-unet2d && flowprofile train faces32-dit      # half an hour on a core
    python -m benchmarks.architectures faces32=faces32 U-Net2D=out/train/faces32-unet2d/faces32-unet2d \\
        DiT=out/train/faces32-dit/faces32-dit --from out/three --into docs/findings

Runs whatever `--from` does not hold yet, prints every figure with its interval, and writes the curves as CSV and one
picture. A network whose samples show their label in fewer than 80 % of the cases answers nothing: it is "inconclusive".
The sampler takes 200 of the 1000 steps (docs/findings.md says what that moves).
"""

import argparse
import contextlib
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import flowprofile as fp
from benchmarks.findings import Numbers, plain
from flowprofile.figures import DASHED, FAINT, INK, TIME_TOLD, colour_of, style
from flowprofile.models import fidelity, reader, zoo
from flowprofile.report.carrying import Orders, Section, sections
from flowprofile.report.items import items
from flowprofile.stats.bounds import mean_bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTING, SWITCHING = "fig-5.13", "fig-5.17"
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
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "curve", "t", "mean", "lower", "upper", "n"])
        for one in found:
            for curve, times, values in (
                ("1 - SSIM of two labels", one.times, one.pair),
                ("1 - SSIM of two known pictures", one.times, one.null),
                ("share of a switch's effect left", one.at, one.left),
            ):
                bounds = mean_bounds(values, alpha=0.025)
                for t, m, low, high in zip(times, bounds.mean, bounds.lower, bounds.upper, strict=True):
                    writer.writerow(
                        [one.name, curve, int(t), f"{m:.5f}", f"{low:.5f}", f"{high:.5f}", bounds.n]
                    )


def draw(found: Sequence[Answers], path: Path) -> None:
    """Both questions, a colour for each network; bands are 95 % intervals of the mean."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        parting, switching = figure.subplots(1, 2)
        for number, one in enumerate(found):
            shown = f"{one.name} ({one.shown['fidelity']:.0%} show their label)"
            _band(parting, one.times, one.pair, number, shown)
            parting.plot(one.times, one.null.mean(0), color=colour_of(number), alpha=0.6, **DASHED)
            _band(switching, one.at, one.left, number, one.name, marker="o")
        parting.plot([], [], color=FAINT, label="two known pictures, same noise", **DASHED)
        parting.axhline(0.05, color=FAINT, linewidth=0.8, linestyle=":")
        switching.axhline(0.1, color=FAINT, linewidth=0.8, linestyle=":")
        for panel, title, words, across in (
            (parting, "When two labels part", "1 - SSIM of 0110 and 0111", TIME_TOLD),
            (
                switching,
                "Until when the label counts",
                "share of the earliest switch's effect",
                "label switched at t",
            ),
        ):
            panel.set_title(title, fontsize=11, color=INK, loc="left")
            panel.set_ylabel(words)
            panel.set_xlabel(across)
            panel.set_xlim(1000, -10)
            panel.legend(frameon=False, fontsize=8)
        figure.savefig(path, dpi=110)


def _band(axes: "Axes", times: Numbers, values: Numbers, number: int, label: str, **how: Any) -> None:
    bounds = mean_bounds(values, alpha=0.025)
    axes.plot(times, bounds.mean, color=colour_of(number), linewidth=1.4, markersize=3, label=label, **how)
    axes.fill_between(times, bounds.lower, bounds.upper, color=colour_of(number), alpha=0.18, linewidth=0)


def main() -> None:
    """Ask every network, print, write and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("--from", dest="folder", type=Path, required=True, help="where the stores are")
    parser.add_argument("--into", type=Path, help="where architectures.csv and architectures.png go")
    parser.add_argument("--cluster", help="who computes, for instance local:2")
    options = parser.parse_args()
    found = []
    for network in options.networks:
        name, _, model = network.partition("=")
        found.append(answered(name, model, options.folder, cluster=options.cluster))
        for line in told(found[-1]):
            print(line, flush=True)
    if options.into is not None:
        options.into.mkdir(parents=True, exist_ok=True)
        write_curves(found, options.into / "architectures.csv")
        draw(found, options.into / "architectures.png")


if __name__ == "__main__":
    main()
