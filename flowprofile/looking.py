"""One sampled case in memory: what a store would hold of it, bit for bit, and no store.

It is the same definition, plan and code as a profile's, in a place that is forgotten afterwards. So a look is also what
a run would say: it refuses the same things, and its numbers are those of the canonical batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import xarray as xr

from flowprofile import running
from flowprofile.errors import DefinitionError
from flowprofile.store.places import MemoryPlace
from flowprofile.time.steps import Spec


def look(
    model: Any,
    *,
    layers: str | Sequence[str],
    seed: int = 0,
    label: Any = 0,
    time: Spec = "::1",
    sampler: Mapping[str, Any] | None = None,
    allow_code: bool = False,
) -> xr.DataTree:
    """Sample one case and see what layers put out, at some of its steps.

    Parameters
    ----------
    model
        A shipped model's name, a folder, a checkpoint's path, or a live `flowprofile.denoiser`.
    layers
        Names and globs, as ``activations`` takes them.
    seed, label
        The case; a label as in a definition, so a prompt where the model takes prompts.
    time
        States as ``keep`` takes them: one, a list, or a slice ``"::50"`` of those the sampler visits. By default all.
        Sampling ends at the last of them.
    sampler
        As in a definition.
    allow_code
        Whether a model ``"module:name"`` may be imported.

    Returns
    -------
    xarray.DataTree
        Loaded, under the names and axes of a profile: ``tree["activations/LAYER"]["activation"]`` and, at the same
        states, ``tree["trajectory"]["x_t"]``. Every number is what a store would hold of this case.

    Notes
    -----
    It costs the steps down to the last state asked for, in one canonical batch (`numerics.batch` rows, of which one is
    wanted: a row computed alone would have other last bits). Everything looked at is in memory at once.

    >>> tree = look("digits", layers="mid_block1.net", label=3, time=[500], sampler={"steps": 4})
    >>> dict(tree["activations/mid_block1.net"]["activation"].sizes)
    {'intervention': 1, 'label': 1, 'seed': 1, 'time': 1, 'channel': 32, 'y': 4, 'x': 4}
    """
    names = _named(layers)
    if sampler is not None and not isinstance(sampler, Mapping):
        raise DefinitionError(
            f"The sampler is {sampler!r}, which is not a table.",
            consequence="Nothing was sampled.",
            remedy='give its settings, for instance sampler={"rule": "ddim", "steps": 50}',
        )
    if isinstance(label, Sequence) and not isinstance(label, str) and not _attributes(label):
        raise DefinitionError(
            f"The label is {label!r}, and a look is at one.",
            consequence="Nothing was sampled.",
            remedy="give one label: a number, bits, or names of attributes; look once for each of several",
        )
    keep = [time] if isinstance(time, int) else time
    where = MemoryPlace(f"look-{uuid4().hex}")
    try:
        found = running.profile(
            model,
            seeds=[seed],
            labels=[label],
            into=where,
            times=keep,
            stages={"activations": {"layers": names, "keep": keep}},
            sampler=sampler,
            allow_code=allow_code,
        )
        return found.load()
    finally:
        where.forget()


def _named(layers: object) -> list[str]:
    """Names of layers, as a list."""
    names = [layers] if isinstance(layers, str) else layers
    if isinstance(names, Sequence) and names and all(isinstance(name, str) for name in names):
        return list(names)
    raise DefinitionError(
        f"The layers are {layers!r}, which names none.",
        consequence="Nothing would be looked at.",
        remedy='name at least one, or a glob: layers="mid*"; `flowprofile layers MODEL` lists them',
    )


def _attributes(label: Sequence[object]) -> bool:
    """Whether several names stand for one label."""
    return bool(label) and all(isinstance(part, str) for part in label)
