"""From trained weights to an embedded model: its measured fidelity goes into its card, and the card tells its story.

No number of a model card is typed by hand: the text beside the weights is made from the card inside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from flowprofile.models import weights
from flowprofile.models.card import ModelCard


@dataclass(frozen=True)
class Notes:
    """What numbers cannot say about an embedded model."""

    title: str
    """What it draws, in half a line."""
    data: str
    """What it learned from."""
    judged: str
    """What the reader was trained on."""
    limits: tuple[str, ...]
    """What it must not be taken for."""


NOTES: Final[Mapping[str, Notes]] = MappingProxyType(
    {
        "faces32": Notes(
            "procedural faces, 32 x 32, four attributes",
            "Rendered on the fly by `flowprofile.datasets.faces`: no photograph and no person is in it. Each of the"
            " 16 labels is equally likely and independent of skin, hair, pose, light and background; hair keeps a"
            " least distance in RGB from skin and background. No picture was shown twice.",
            "other renders",
            (
                (
                    "It is a model of a renderer and knows no real faces; nothing learned with it carries over to"
                    " photographs without a test."
                ),
                '"Male" is a drawing convention here (short hair, ears and beard) and nothing else.',
                "It was trained without a null label, so classifier-free guidance is refused.",
                "The network predicts v; a tap on `final_conv` sees v, while the denoiser gives eps.",
                "The full-resolution skip is used, which thesis checkpoints do not do.",
            ),
        ),
        "digits": Notes(
            "handwritten digits, 8 x 8, ten classes",
            "The 1,797 digits inside scikit-learn (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits,"
            " 1998), all of them, without augmentation. The reader's held-out digits are held out from the reader"
            " only.",
            "real digits",
            (
                "Eight by eight pixels: a model for tests, teaching and timing.",
                (
                    "1,797 pictures are few, but it does not recite them: the nearest digit is as far from a sample"
                    " (median 1.02, root of summed squares of ink, n = 500, DDIM-50) as from another digit (1.01)."
                ),
                "One label in ten was dropped in training: label 10 is the null label and guidance works.",
                "The network predicts v; a tap on `final_conv` sees v, while the denoiser gives eps.",
            ),
        ),
    }
)


def publish(path: str | Path, measured: Mapping[str, Any], *, into: str | Path) -> ModelCard:
    """Write `into/<name>.safetensors`, its card with the measured fidelity, and `<name>.md`; returns the card."""
    card = replace(weights.card(path), fidelity=measured)
    target = Path(into) / f"{card.name}.safetensors"
    weights.save(target, weights.load(path), card)
    target.with_suffix(".md").write_text(describe(target), encoding="utf-8")
    return card


def describe(path: str | Path) -> str:
    """The human-readable model card of a weights file of one of NOTES."""
    card = weights.card(path)
    header = weights.read_header(path)
    notes, found, told = NOTES[card.name], card.fidelity, card.training
    numbers = sum(prod(entry.shape) for entry in header.entries)
    low, high = found["interval"]
    rule, transitions = found["sampler"].split("-")
    facts = {
        "network": f"the thesis' U-Net layout, {numbers:,} parameters, {_settings(card.config)}",
        "sample": f"{card.shape[0]} x {card.shape[1]} x {card.shape[2]}, pixels in {list(card.pixel_range)}",
        "labels": _labels(card),
        "diffusion": f"{card.schedule} schedule, T = {card.steps}, predicts {card.prediction}",
        "training": f"{told['steps']:,} steps of batch {told['batch']} (Adam {told['learning_rate']},"
        f" average {told['average']}, t ~ u^{told['time_power']}), recipe `{told['recipe']}`",
        "weights digest": f"`{weights.digest(path)}`",
        "fidelity": f"**{found['fidelity']:.1%}** of n = {found['n']} samples ({found['sampler']}, seeds 0 to"
        f" {found['n'] - 1}, none left out) show their whole label; 95 % interval {low:.1%} to {high:.1%}",
        "by part": ", ".join(f"{name} {share:.1%}" for name, share in found["parts"].items()),
        "reader": f"a CNN trained on {notes.judged}, never on samples; it reads {found['reader_held_out']:.1%} of"
        f" {found['reader_held_out_n']:,} held-out ones; digest `{found['reader']}`",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    limits = "\n".join(f"- {limit}" for limit in notes.limits)
    return (
        f"# {card.name}: {notes.title}\n\n| | |\n|---|---|\n{table}\n\n## Data\n\n{notes.data}\n\n"
        f"## Limits\n\n{limits}\n\n## Make it again\n\n"
        "```python\nfrom flowprofile.models import fidelity, publish, reader, training, zoo\n\n"
        f'path = training.train("{card.name}", into="trained")\n'
        f'judge = reader.load("{card.name}")\n'
        f'how = {{"n": {found["n"]}, "sampler": "{rule}", "transitions": {transitions}}}\n'
        "measured = fidelity.measure(zoo.load(path), judge, **how)\n"
        'publish.publish(path, measured, into="published")\n```\n'
    )


def _settings(config: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in sorted(config.items()))


def _labels(card: ModelCard) -> str:
    if card.labels.attributes:
        return f"{card.labels.count}, bits {', '.join(card.labels.attributes)} (the first is the most significant)"
    null = "" if card.null_label is None else f", null label {card.null_label}"
    return f"{card.labels.count} classes{null}"
