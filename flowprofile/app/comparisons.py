"""Two to four cases side by side: their pictures, how far they are apart at every state, and from which one on.

The first side is the case of the page; every other is a small query of its own, and what it leaves out is the first
side's. Pictures come from blocks, as everywhere, and their difference is made where they are drawn. Curves are those
of `comparing`; nothing is kept beside the profile, since whoever looks at a store may not be one who writes to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import xarray as xr

from flowprofile.app.asked import Query, Where, case_of
from flowprofile.app.blocks import Picture
from flowprofile.app.catalogue import titles_of
from flowprofile.app.notes import of_comparison
from flowprofile.app.panels import panel, pictures
from flowprofile.app.parting import Pair, layers_of, parting
from flowprofile.app.profiles import Profiles
from flowprofile.app.remedies import ensured
from flowprofile.axes import TIME
from flowprofile.captions import caption
from flowprofile.comparing.states import MEASURES
from flowprofile.errors import StoreError, nearest

MOST: Final = 4
"""Sides of a comparison at most."""
OF_SIDE: Final = ("store", "run", "intervention", "label", "seed")
"""What a side may say."""
FIRST: Final = ("predicted_x0", "trajectory")
"""Objects that are shown where none is named, the first that all sides have: states are noise for most of the way."""


@dataclass(frozen=True)
class Side:
    """One case that is compared, in an opened run."""

    store: str
    """Name of the store, as the command line gave it; empty for the one that is shown."""
    profiles: Profiles
    run: str
    tree: xr.DataTree
    where: Where

    @property
    def told(self) -> dict[str, Any]:
        """The side, for a person and for an address."""
        order = list(self.tree.attrs.get("model", {}).get("attributes", ()))
        words = " ".join(caption(self.tree.to_dataset(), self.where.label, order=order).split())
        return {
            "store": self.store,
            "url": self.profiles.url,
            "run": self.run,
            **self.where.key(),
            "title": titles_of(self.tree.to_dataset(inherit=False))[self.where.intervention],
            "caption": words,
            "command": ensured(self.profiles.url, self.where),
        }


def compare(
    profiles: Profiles, asked: Query, *, others: Mapping[str, Profiles] | None = None
) -> dict[str, Any]:
    """Sides, their pictures of one object, and how the first differs from each other over time.

    Parameters
    ----------
    asked
        The first side's case; ``side`` (up to three times) what another has different, such as ``label=7``;
        ``object`` the node whose pictures are shown; ``measure``, ``layer`` and ``excess`` as `flowprofile.compare`
        takes them.
    others
        Further stores by name, which a side may speak of.
    """
    sides = sides_of(profiles, asked, others or {})
    shared = _shared(sides)
    chosen = _chosen(shared, asked.get("object"))
    shown = shared[chosen] if chosen else []
    found = {
        "sides": [side.told for side in sides],
        "objects": [f"{node}:{variable}" for node, variable in shared],
        "object": None if chosen is None else ":".join(chosen),
        "panels": [_panel(side, picture) for side, picture in zip(sides, shown, strict=bool(shown))],
        "times": _times(shown),
        "measures": _measures(sides[0].tree),
        "layers": layers_of(sides[0].tree, asked.get("measure")),
        "pairs": [
            {"sides": [0, at], **parting(_pair(sides[0], side), asked)}
            for at, side in enumerate(sides[1:], 1)
        ],
    }
    return {**found, "notes": of_comparison(asked, found)}


def sides_of(profiles: Profiles, asked: Query, others: Mapping[str, Profiles]) -> list[Side]:
    """Every side that an address names; where it names one alone, the next label or seed stands beside it."""
    run, tree = profiles.run(asked.get("run"))
    first = Side("", profiles, run, tree, case_of(tree, asked))
    told = asked.all("side")
    if len(told) >= MOST:
        raise StoreError(f"{len(told) + 1} sides are asked for.", remedy=f"compare at most {MOST}")
    if not told:
        return [first, _beside(first)]
    return [first, *(_side(first, text, others) for text in told)]


def _side(first: Side, text: str, others: Mapping[str, Profiles]) -> Side:
    pairs = dict(parse_qsl(text, keep_blank_values=True))
    strange = [name for name in pairs if name not in OF_SIDE]
    if strange:
        raise StoreError(f"A side has no {strange[0]!r}.", remedy=nearest(strange[0], OF_SIDE))
    name = pairs.get("store", first.store)
    if name and name not in others:
        raise StoreError(
            f"No store {name!r} was given when this was started.",
            consequence="An address cannot name a place on this machine.",
            remedy=nearest(name, others) if others else "start it with --beside NAME=STORE",
        )
    profiles = others[name] if name else first.profiles
    run, tree = profiles.run(pairs.get("run", "" if name else first.run))
    mine = {key: str(value) for key, value in first.where.key().items()}
    return Side(name, profiles, run, tree, case_of(tree, Query(tuple((mine | pairs).items()))))


def _beside(first: Side) -> Side:
    """Another label of the same noise; of a run with one label, another seed."""
    for axis in ("label", "seed"):
        known = first.tree.coords[axis].values.tolist()
        if len(known) > 1:
            at = known.index(first.where.key()[axis])
            return _side(first, urlencode({axis: known[(at + 1) % len(known)]}), {})
    raise StoreError(
        "This run holds one case.",
        consequence="There is nothing to compare it with.",
        remedy=f"sample another seed: flowprofile ensure {first.profiles.url} --seeds 0:4",
    )


def _pair(one: Side, two: Side) -> Pair:
    return Pair(one.profiles, one.tree, one.where, two.profiles, two.tree, two.where)


def _shared(sides: Sequence[Side]) -> dict[tuple[str, str], list[Picture]]:
    """Pictures that every side has, of one shape, what is looked at first before the others."""
    each = [{(p.node, p.variable): p for kind in pictures(s.tree).values() for p in kind} for s in sides]
    first = each[0]
    keys = [k for k, p in first.items() if all(k in other and other[k].shape == p.shape for other in each)]
    keys.sort(key=lambda key: (FIRST.index(key[0]) if key[0] in FIRST else len(FIRST), key[0]))
    return {key: [other[key] for other in each] for key in keys}


def _chosen(shared: Mapping[tuple[str, str], Any], name: str) -> tuple[str, str] | None:
    if not name:
        return next(iter(shared), None)
    found = next((key for key in shared if name in (key[0], ":".join(key))), None)
    if found is None:
        raise StoreError(
            f"Not every side has pictures {name!r}.",
            consequence="They cannot be shown side by side.",
            remedy=nearest(name, [":".join(key) for key in shared]),
        )
    return found


def _panel(side: Side, picture: Picture) -> dict[str, Any]:
    found = panel(side.run, side.tree, picture, side.where)
    return found | ({"block": f"{found['block']}&{urlencode({'beside': side.store})}"} if side.store else {})


def _times(shown: Sequence[Picture]) -> list[int]:
    """States that every side keeps, descending."""
    each = [set(picture.array[TIME].values.tolist()) for picture in shown]
    return sorted(set.intersection(*each), reverse=True) if each else []


def _measures(tree: xr.DataTree) -> list[str]:
    """What the distance may be measured by: kinds that states alone give, then stored measures."""
    held = tree.children.get("measures", xr.DataTree()).children
    return [*MEASURES, *(name for name, node in held.items() if "value" in node.data_vars)]
