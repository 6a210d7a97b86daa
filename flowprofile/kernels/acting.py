"""What a case's interventions do to one network call: its label, and edits of layers' outputs.

Lanes of one call may belong to different cases, interventions and states; each is acted upon by its own only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from flowprofile.axes import LAYER, TIME
from flowprofile.cases import Case
from flowprofile.conditioning.interventions import (
    Ablation,
    Difference,
    Intervention,
    OwnChannel,
    Part,
    Patch,
    Switch,
)
from flowprofile.models import editing
from flowprofile.models.denoiser import Denoiser
from flowprofile.models.taps import Edit, tapping
from flowprofile.time.sample import pad

Results = Mapping[tuple[Case, int], xr.Dataset]
"""Results of other cases, dims (time, ...): by the case that reads and the number of the source."""


@dataclass(frozen=True)
class Lane:
    """One row of a network call."""

    case: Case
    t_from: int
    """The state it starts from."""
    t: int
    """The state it steps into: what the network shows is labelled so."""


@dataclass(frozen=True)
class Acts:
    """The interventions in force in one call."""

    interventions: Mapping[str, Intervention]
    lanes: Sequence[Lane]
    given: Results
    masks: Mapping[str, np.ndarray]
    """Masks of ablations by name, bool[y x]."""
    vectors: Mapping[tuple[str, Difference], np.ndarray]
    """Differences of group means by layer, [channel]."""
    device: torch.device
    """Where the network is."""

    def labels(self) -> list[int]:
        """The label each lane is asked with."""
        return [
            lane.case.label
            if lane.case.clean
            else self.interventions[lane.case.intervention].label_at(lane.case.label, lane.t)
            for lane in self.lanes
        ]

    def edits(self, denoiser: Denoiser, *, rows: int, batch: int) -> Mapping[str, Edit]:
        """What is done to the outputs of layers in a call of so many rows; runs the donors of patches first."""
        active = [self._active(lane) for lane in self.lanes]
        if not any(active):
            return {}
        donors = self._donors(denoiser, active, batch)
        edited = [
            editing.Lane(
                parts=tuple(active[row]),
                channels=self._channels(lane, active[row]),
                donor=donors.get(row, {}),
                masks={name: torch.tensor(mask).float() for name, mask in self.masks.items()},
                vectors={key: torch.from_numpy(vector) for key, vector in self.vectors.items()},
            )
            for row, lane in enumerate(self.lanes)
        ]
        # The rows behind the lanes are the first lane's again, so they are edited as it is.
        return editing.edits(edited + edited[:1] * (rows - len(edited)))

    def _active(self, lane: Lane) -> list[Part]:
        """The parts that edit layers in this lane's step."""
        if lane.case.clean:
            return []
        return [
            part
            for part in self.interventions[lane.case.intervention].active(lane.t)
            if not isinstance(part, Switch)
        ]

    def _channels(self, lane: Lane, parts: Sequence[Part]) -> dict[tuple[str, OwnChannel], int]:
        """Each sample's own channel, read off its clean run."""
        found = {}
        for number, part in self._reads(lane):
            if part in parts and isinstance(part, Ablation) and isinstance(part.channels, OwnChannel):
                shown = self.given[lane.case, number]
                row = shown["channel"].sel({TIME: part.channels.time, LAYER: part.layer})
                found[part.layer, part.channels] = int(row)
        return found

    def _donors(
        self, denoiser: Denoiser, active: Sequence[Sequence[Part]], batch: int
    ) -> dict[int, dict[tuple[str, int], Tensor]]:
        """What the patched layers put out in the donors' own step, by row, layer and firing."""
        wanted = [
            (row, part, self.given[self.lanes[row].case, number])
            for row, lane in enumerate(self.lanes)
            for number, part in self._reads(lane)
            if part in active[row] and isinstance(part, Patch)
        ]
        found: dict[int, dict[tuple[str, int], Tensor]] = {}
        for first in range(0, len(wanted), batch):
            chosen = wanted[first : first + batch]
            lanes = [self.lanes[row] for row, _, _ in chosen]
            states = [
                given["x_t"].sel({TIME: lane.t_from}).values
                for lane, (_, _, given) in zip(lanes, chosen, strict=True)
            ]
            x = torch.from_numpy(np.stack(states).astype(np.float32))
            index = torch.tensor([lane.t_from - 1 for lane in lanes], dtype=torch.int64)
            label = torch.tensor(
                [part.donor(lane.case).label for lane, (_, part, _) in zip(lanes, chosen, strict=True)],
            )
            layers = sorted({layer for _, part, _ in chosen for layer in part.layers})
            asked = [pad(rows, batch).to(self.device) for rows in (x, index, label)]
            with tapping(denoiser, layers) as seen:
                seen.run(partial(denoiser, *asked))
            seen.ran()
            fired = seen.firings
            for at, (row, part, _) in enumerate(chosen):
                sites = [(layer, call) for layer in part.layers for call in range(fired[layer])]
                found.setdefault(row, {}).update({site: seen[site][at] for site in sites})
        return found

    def _reads(self, lane: Lane) -> list[tuple[int, Part]]:
        """The parts that read another run, with the numbers of what they read."""
        return [] if lane.case.clean else list(enumerate(self.interventions[lane.case.intervention].reads))
