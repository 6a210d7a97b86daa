"""`[report]`: what a pipeline is there to find out, and what would count as having found it.

    [report]
    item    = "Fig 5.6"
    title   = "Similarity of consecutive states"
    question = "Does the network make the picture change less, and then more again?"
    finding = "SSIM rises, stays level around t = 250, and dips in the last 100 steps"
    control = "the same noise, driven by a chain that knows the finished picture"
    caveat  = "the dip's depth depends on the window and the range of SSIM"
    verdict = { rule = "window", stage = "step_ssim", of = [100, 1], against = [300, 200], direction = "below" }
    figure  = [{ draw = "curves", stage = "step_ssim" }]

The table says nothing about what is computed, so it is part of no key and of no provenance. The parameters of a rule
belong to the rule (`report.rules`), which checks them before anything runs.
"""

from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from flowprofile.definitions.base import MAX_SEEDS, Table, Whole

LEAST_SEEDS = 3
"""With fewer there is no interval worth the name."""


class VerdictTable(Table):
    """The rule by which an item is judged; everything else in the table belongs to that rule."""

    model_config = ConfigDict(extra="allow", frozen=True)

    rule: str = Field(description="window, onset, settled, ...: docs/thesis.md lists them")

    @property
    def settings(self) -> dict[str, Any]:
        """The rule's own parameters."""
        return dict(self.model_extra or {})


class FigureTable(Table):
    """One picture of an item; everything else in the table belongs to the kind of drawing."""

    model_config = ConfigDict(extra="allow", frozen=True)

    draw: str = Field(description="strip, endings, curves, lines, maps or intervals")
    caption: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """The drawing's own parameters."""
        return dict(self.model_extra or {})


class Report(Table):
    """One item of a report: a question, what was claimed, and the rule that decides."""

    item: str = Field(min_length=1, description="what it reproduces, for instance Fig 5.6")
    title: str = Field(min_length=1)
    question: str = Field(min_length=1)
    finding: str = Field(min_length=1, description="what the source says")
    control: str = Field(min_length=1, description="the null or control that the effect is held against")
    caveat: str = ""
    verdict: VerdictTable
    figure: list[FigureTable] = Field(min_length=1)
    seeds: Whole = Field(30, ge=LEAST_SEEDS, le=MAX_SEEDS, description="how many seeds a full report has")
    least: Whole = Field(4, ge=LEAST_SEEDS, le=MAX_SEEDS, description="fewer say too little to be shown")

    @model_validator(mode="after")
    def _least_fits(self) -> Self:
        if self.least > self.seeds:
            raise ValueError(f"least = {self.least} is more than seeds = {self.seeds}")
        return self
