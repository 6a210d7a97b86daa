"""Why a case has no curve of a measure: it is not computed yet, or it never will be."""

from typing import Any

import xarray as xr

from flowprofile.app.asked import Where
from flowprofile.app.lines import Curve
from flowprofile.app.remedies import ensured
from flowprofile.axes import INTERVENTION
from flowprofile.cases import CLEAN


def absence(tree: xr.DataTree, curve: Curve, where: Where) -> dict[str, Any]:
    """What is said in place of a curve, and the command that computes it, where one does."""
    if _unchanged(tree, where):
        return _never(
            f"A run whose label is switched to {where.label} is of label {where.label} from the first."
        )
    if not (curve.status(**{INTERVENTION: where.intervention}) > 0).any():
        told = "the clean run" if where.intervention == CLEAN else repr(where.intervention)
        return _never(f"It is not measured of {told}, only of other interventions.")
    url = str(tree.attrs.get("flowprofile_url", "STORE"))
    return {"missing": True, "why": "Not computed for this sample.", "command": ensured(url, where)}


def _never(why: str) -> dict[str, Any]:
    return {"missing": True, "why": why, "command": ""}


def _unchanged(tree: xr.DataTree, where: Where) -> bool:
    """Whether the label is switched to itself, which nobody samples again."""
    coords = tree.coords
    if "to_label" not in coords or where.intervention == CLEAN:
        return False
    one = coords.to_dataset().sel({INTERVENTION: where.intervention})
    return str(one["kind"].values) == "switch" and int(one["to_label"]) == where.label
