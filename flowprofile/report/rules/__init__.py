"""The rules by which a verdict is reached, by name. Each is a pure function of what was stored."""

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from flowprofile.definitions import Table, Text, refusal
from flowprofile.definitions.report import Report
from flowprofile.errors import DefinitionError, nearest
from flowprofile.report.rules import (
    ablation,
    earlier,
    locality,
    onset,
    pulled,
    reach,
    resemblance,
    settled,
    window,
)
from flowprofile.report.rules.base import Nodes as Nodes
from flowprofile.report.rules.base import Rule as Rule

RULES: Final[Mapping[str, Rule]] = {
    room.RULE.name: room.RULE
    for room in (window, onset, earlier, resemblance, reach, ablation, locality, pulled, settled)
}


def rule_of(report: Report, text: Text) -> tuple[Rule, Table]:
    """The rule that a report names, with its parameters; a wrong name or parameter is refused with its place."""
    name = report.verdict.rule
    if name not in RULES:
        raise DefinitionError(
            f"There is no rule {name!r} ({text.place(['report', 'verdict', 'rule'])}).",
            consequence="Nothing could be concluded from what would be computed.",
            remedy=nearest(name, RULES),
        )
    rule = RULES[name]
    try:
        return rule, rule.params.model_validate(report.verdict.settings)
    except ValidationError as error:
        raise refusal(error, text, rule.params, under=("report", "verdict")) from None
