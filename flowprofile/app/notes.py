"""What an address asks for that a view does not have, and what is shown in its place, in one line each.

Where a view stands (a channel, a state, its colours) always has a nearest or a usual value: that is shown, and said.
What decides what is read (a label, a layer, a measure) has none, and is refused. The page moves without a word to the
server, so it says the same lines itself (`static/notes.js`); a test holds the two together.
"""

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Final

from flowprofile.app.asked import Query

COLOURS: Final = ("each", "log", "clip")
"""Scales besides the usual one."""
CURVES: Final = ("both", "value", "excess")
SORTS: Final = {"pixels": "those on pixels are shown", "layers": "those at layers are shown"}
HALF_WAY: Final = 500
"""The state that an address without one means, or the nearest that is kept."""
LISTED: Final = 8
"""Names of a line at most."""
CUT: Final = 40
WHOLE: Final = re.compile(r"-?\d{1,15}", re.ASCII)
Told = Mapping[str, Any]


def of_pictures(view: str, asked: Query, told: Told, shape: Sequence[int]) -> list[str]:
    """Lines for a view of pictures; `shape` is that of the model's states, whose pixels a mask is of."""
    panels = told["panels"]
    if not panels:
        return []
    times = [panel["times"] for panel in panels]
    kept = (
        max(times, key=len) if view == "sample" else sorted({t for each in times for t in each}, reverse=True)
    )
    planes = [panel for panel in panels if view != "sample" or not panel["image"]]
    found = [_time(asked, kept), _channel(asked, max((prod(p["shape"][:-2]) for p in planes), default=1))]
    if view != "sample":
        marks = [f"max:{mark['node']}" for mark in told.get("marks", [])]
        shows = ["one", "sum", *marks, *(["max:mask"] if "regions" in told else [])]
        found += [
            _choice(asked, "show", shows, "it is left out"),
            _choice(asked, "colour", COLOURS, "one scale for all t is shown"),
        ]
    if view == "gradients" and not asked.all("layer"):
        found.append(_choice(asked, "object", told["objects"], SORTS[told["objects"][0]]))
    if "regions" in told:
        found.append(_mask(asked, told["regions"], prod(shape[-2:])))
    return _said(found)


def of_measures(asked: Query, told: Told, layers: Sequence[str]) -> list[str]:
    """Lines for curves; `layers` are those that some measure has."""
    kept = sorted({t for each in told["measures"] for t in each.get("times", [])}, reverse=True)
    strange = [layer for layer in asked.all("layer") if layer not in layers]
    there = f"There {_listed(layers)}" if layers else "No measure here has layers"
    found = [_time(asked, kept), _choice(asked, "show", CURVES, "value and excess are shown")]
    return _said([*found, *(_line("layer", each, f"{there}; it is left out") for each in strange)])


def of_comparison(asked: Query, told: Told) -> list[str]:
    """Lines for two to four sides."""
    panels = told["panels"]
    planes = prod(panels[0]["shape"][:-2]) if panels and not panels[0]["image"] else 1
    deltas = [f"{onset['delta']:g}" for pair in told["pairs"] for onset in pair.get("onsets", [])]
    found = [_time(asked, told["times"])]
    found += [_channel(asked, planes)] if panels else []
    if deltas:
        shaded = "the first that is claimed is shaded, or the first"
        found.append(_choice(asked, "delta", list(dict.fromkeys(deltas)), shaded))
    return _said([*found, _choice(asked, "excess", ["1"], "the distance itself is shown")])


def of_table(asked: Query, told: Told, *, most: int) -> list[str]:
    """Lines for a page of the table; `most` are the rows it may have."""
    offset, limit, cases = asked.number("offset"), asked.number("limit"), told["cases"]
    found = []
    if offset is not None and offset != told["offset"]:
        shown = f"There are {cases:,} cases, counted from 0; those from {told['offset']:,} on are shown"
        found.append(_line("offset", str(offset), shown))
    if limit is not None and not 1 <= limit <= most:
        found.append(
            _line("limit", str(limit), f"A page has 1 to {most} rows; {len(told['rows'])} are shown")
        )
    return found


def _time(asked: Query, kept: Sequence[int]) -> str:
    text = asked.get("time")
    number = int(text) if WHOLE.fullmatch(text) else None
    if not text or not kept or number in kept:
        return ""
    shown = min(kept, key=lambda t: abs(t - (HALF_WAY if number is None else number)))
    states = (
        f"Kept are {len(kept):,} states, {kept[0]} to {kept[-1]}" if len(kept) > 1 else "Kept is one state"
    )
    return _line("time", text, f"{states}; t = {shown} is shown")


def _channel(asked: Query, size: int) -> str:
    text = asked.get("channel")
    number = int(text) if WHOLE.fullmatch(text) else None
    if not text or (number is not None and 0 <= number < size):
        return ""
    shown = min(max(0, number or 0), size - 1)
    there = (
        f"There are {size:,}, 0 to {size - 1}; {shown} is shown"
        if size > 1
        else "There is one, 0; it is shown"
    )
    return _line("channel", text, there)


def _choice(asked: Query, name: str, known: Sequence[str], usual: str) -> str:
    text = asked.get(name)
    return _line(name, text, f"There {_listed(known)}; {usual}") if text and text not in known else ""


def _mask(asked: Query, regions: Mapping[str, Any], size: int) -> str:
    text = asked.get("mask")
    if not text or text in regions:
        return ""
    parts = [part.strip() for part in text.split(",")]
    wrong = next(
        (part for part in parts if not (re.fullmatch(r"\d{1,9}", part, re.ASCII) and int(part) < size)), None
    )
    if wrong is None:
        return ""
    named = f" and the regions {_and(sorted(regions))}" if regions else ""
    return _line("mask", wrong, f"There are the pixels 0 to {size - 1}{named}; no mask is shown")


def _line(name: str, value: str, told: str) -> str:
    return f"The address says {name}={value[:CUT]}{'…' if len(value) > CUT else ''}. {told}."


def _listed(known: Sequence[str]) -> str:
    shown = [*known[:LISTED], *([f"{len(known) - LISTED} more"] if len(known) > LISTED else [])]
    return f"{'are' if len(known) > 1 else 'is'} {_and(shown)}"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


def _said(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line]
