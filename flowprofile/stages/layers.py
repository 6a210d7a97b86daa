"""Naming layers in a definition: exact names, globs, lists of these; always in the order of the forward pass."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from flowprofile.errors import DefinitionError, nearest
from flowprofile.kinds import Context

Layers = str | list[str]
"""Names and globs."""


def chosen(wanted: Layers, context: Context, *, place: str) -> tuple[str, ...]:
    """The layers that the names and globs mean, each once.

    A glob means the layers of the interface (65 at the defaults); any other module with a picture as output, such as
    the residual sum ``downs.0.2``, is meant only where it is named.
    """
    if not context.sites:
        raise DefinitionError(
            f"The model {context.card.name!r} has no layers ({place}).",
            consequence="It is a formula: there is nothing between its input and its eps.",
            remedy="use a network such as 'faces32' or 'digits', or leave out what looks at layers",
        )
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    if not patterns:
        raise DefinitionError(
            f"An empty list of layers ({place}).",
            consequence="Nothing would be looked at.",
            remedy='name at least one, for instance layers = "mid_attn.fn", or leave the stage out',
        )
    named = {site for pattern in patterns for site in _meant(pattern, context, place)}
    return tuple(site for site in context.sites if site in named)


def _meant(pattern: str, context: Context, place: str) -> Sequence[str]:
    if pattern in context.sites:
        return [pattern]
    found = [name for name, site in context.sites.items() if site.listed and fnmatchcase(name, pattern)]
    if not found:
        raise DefinitionError(
            f"The model {context.card.name!r} has no layer {pattern!r} ({place}).",
            consequence="Nothing would be looked at.",
            remedy=f"{nearest(pattern, list(context.sites))}; `flowprofile layers MODEL` lists them all",
        )
    return found
