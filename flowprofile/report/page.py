"""The page: one HTML file that needs no network, no script and no fonts, and says what every number is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from math import isfinite
from pathlib import Path
from typing import Any, Final

from flowprofile import __version__
from flowprofile.definitions.written import inline
from flowprofile.models.card import ModelCard
from flowprofile.report.carrying import Section
from flowprofile.report.verdicts import ALPHA, OUTCOMES, Estimate

TEMPLATE: Final = "page.html.j2"
MARKS: Final[Mapping[str, str]] = {
    "confirmed": "confirmed", "explained by the null": "null", "not found": "absent", "failed": "failed",
}  # fmt: skip
"""The style of each outcome; the word itself always stands beside the colour."""


@dataclass(frozen=True)
class Heading:
    """What stands above all items."""

    title: str
    command: str
    """The command that made the page."""
    budget: float | None
    """Minutes, if there was a budget."""
    least: float | None = None
    """Minutes that the fewest seeds take, where the budget was less."""


def page(sections: Sequence[Section], heading: Heading) -> str:
    """The whole page as text.

    Needs nothing from elsewhere: style and figures are within it, and it can be read without scripts, which it has
    none of.
    """
    from jinja2 import Environment, StrictUndefined

    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"interval": interval, "number": number}
    template = made.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text("utf-8"))
    return template.render(
        heading=heading,
        sections=[_told(section) for section in sections],
        counts=_counts(sections),
        models=_models(sections),
        version=__version__,
        alpha=ALPHA,
        reduced=[one for one in sections if 0 < one.n < one.item.report.seeds],
    )


def write(path: Path, text: str) -> None:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def number(value: float) -> str:
    """A number as a table shows it.

    >>> number(0.00123456), number(-12.5), number(float("nan")), number(430.0)
    ('0.00123', '−12.5', 'none', '430')
    """
    if not isfinite(value):
        return "none"
    return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}".replace("-", "−")


def interval(found: Estimate) -> str:
    """Both ends of an interval; an end that does not exist is left open.

    >>> interval(Estimate(0.5, 0.25, 0.75, 9)), interval(Estimate(800.0, float("nan"), 840.0, 9))
    ('0.25 … 0.75', 'open … 840')
    """
    ends = [number(end) if isfinite(end) else "open" for end in (found.lower, found.upper)]
    return " … ".join(ends)


def _told(section: Section) -> dict[str, Any]:
    outcome = section.verdict.outcome if section.verdict is not None else "failed"
    return {
        "section": section,
        "report": section.item.report,
        "rule": section.item.rule,
        "verdict": section.verdict,
        "outcome": outcome,
        "mark": MARKS[outcome],
        "anchor": section.item.name.replace(".", "-"),
        "written": written(section),
        "shown": None if section.verdict is None else _shown(section),
    }


def _shown(section: Section) -> Estimate:
    found = section.verdict
    assert found is not None
    return Estimate(found.estimate, found.lower, found.upper, found.n)


def written(section: Section) -> str:
    """The verdict's table as it stands in the definition."""
    table = section.item.report.verdict
    lines = [f"{key} = {inline(value)}" for key, value in {"rule": table.rule, **table.settings}.items()]
    return "\n".join(["[report.verdict]", *lines])


def _counts(sections: Sequence[Section]) -> list[tuple[str, str, int]]:
    """How often each outcome came out, those that did not left out."""
    found = [section.verdict.outcome if section.verdict else "failed" for section in sections]
    return [(one, MARKS[one], found.count(one)) for one in (*OUTCOMES, "failed") if one in found]


def _models(sections: Sequence[Section]) -> list[str]:
    """What every number is about, model by model."""
    cards = {section.card.name: section.card for section in sections if section.card is not None}
    return [_about(card) for card in cards.values()]


def _about(card: ModelCard) -> str:
    size = " × ".join(str(side) for side in card.shape[1:])
    data = card.training.get("data")
    if data == "faces":
        return (
            f"{card.name}: a small U-Net ({size} pixels) trained on drawn renders of faces, not on CelebA and not on"
            " any photograph. Nothing here carries over to photographs without a test of its own."
        )
    if data is None:
        return f"{card.name}: a closed form ({size} pixels) that was not trained on anything."
    return f"{card.name}: a small network ({size} pixels) trained on {data}, not on CelebA."
