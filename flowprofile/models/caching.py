"""One call of a network or of a whole pipeline, with what its layers put out: for who wants an array and no store.

A pipeline asks its network once per step (twice under some guidance), so what is kept has an axis `call` in front, one
place per forward of the whole network, in order. Nothing stays attached, and the network computes what it would alone.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from flowprofile.axes import CASE, CHANNEL, TOKEN, X, Y
from flowprofile.errors import DefinitionError
from flowprofile.models.addresses import Wanted, network, resolve
from flowprofile.models.taps import Seen, tapping

CALL: Final = "call"
TOLD: Final = ("timestep", "index", "t", "time")
"""What networks call the argument that says how noisy their input is."""


def run_with_cache(
    model: Any,
    *args: Any,
    layers: Wanted | Iterable[Wanted],
    **kwargs: Any,
) -> tuple[Any, xr.DataTree]:
    """Call `model` and keep what layers put out.

    Parameters
    ----------
    model
        A network, a denoiser, or a pipeline of diffusers'; called as ``model(*args, **kwargs)``.
    layers
        Names, globs, or whatever `tapping` takes.

    Returns
    -------
    out
        What the call returned.
    cache
        A node per layer, under the layer's name, with the array ``activation``, dims ``(call, case, channel, y, x)``,
        ``(call, case, token, channel)`` or ``(call, case, channel)``: copies in memory, of the network's own numbers. In
        each forward a layer shows its last firing. ``timestep`` along ``call`` is what the network was told, where it
        was one number. NumPy has no bfloat16: such values are widened to float32, which changes none of them.

    Raises
    ------
    DefinitionError
        For a layer the network does not have, before it is called; for one that did not run; and where its output has
        another shape from one forward to the next.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.ReLU())
    >>> out, cache = run_with_cache(net, torch.zeros(1, 1, 4, 4), layers="1")
    >>> dict(cache["1"]["activation"].sizes)
    {'call': 1, 'case': 1, 'channel': 2, 'y': 4, 'x': 4}
    """
    root = network(model)
    if not callable(model):
        raise DefinitionError(
            f"A {type(model).__name__} cannot be called.",
            consequence="Nothing was run.",
            remedy="give a network, a pipeline, or what flowprofile.load and flowprofile.denoiser return",
        )
    names = [tap.name for tap in resolve(model, layers)]
    if not names:
        raise DefinitionError(
            "No layers are named.",
            consequence="The cache would be empty; nothing was run.",
            remedy='name at least one, or a glob: layers="mid*"',
        )
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    told: list[float] = []
    with tapping(model, layers) as seen:
        after = root.register_forward_hook(lambda *call: _take(seen, kept, told, call), with_kwargs=True)
        try:
            out = model(*args, **kwargs)
        finally:
            after.remove()
    if not told:
        raise DefinitionError(
            f"The network {type(root).__name__} did not run in this call.",
            consequence="No layer put anything out.",
            remedy="pass what the call needs to get as far as its network; a pipeline needs at least one step",
        )
    return out, xr.DataTree.from_dict({name: _dataset(name, each, told) for name, each in kept.items()})


def _take(seen: Seen, kept: dict[str, list[Tensor]], told: list[float], call: tuple[Any, ...]) -> None:
    """Put away what one forward of the whole network showed."""
    _, args, kwargs, _ = call
    seen.ran()
    for name, values in kept.items():
        values.append(seen[name].cpu())
    told.append(_timestep(args, kwargs))


def _timestep(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """What the network was told of its input's noise; NaN where it was told nothing, or several things at once."""
    named = next((kwargs[name] for name in TOLD if name in kwargs), None)
    value = named if named is not None else args[1] if len(args) > 1 else None
    if isinstance(value, Tensor) and value.numel() and bool((value == value.reshape(-1)[0]).all()):
        return float(value.reshape(-1)[0])
    return float(value) if isinstance(value, int | float) else float("nan")


def _dataset(name: str, values: list[Tensor], told: list[float]) -> xr.Dataset:
    shapes = list(dict.fromkeys(tuple(value.shape) for value in values))
    if len(shapes) > 1:
        raise DefinitionError(
            f"{name!r} put out {shapes[0]} in one forward and {shapes[1]} in another.",
            consequence="They are not one array.",
            remedy="make calls of one batch size each, or listen with flowprofile.tapping, forward by forward",
        )
    stacked = torch.stack(values)
    if stacked.dtype == torch.bfloat16:
        stacked = stacked.float()
    data = stacked.numpy()
    variable = xr.Variable((CALL, *_dims(len(shapes[0]))), data, {"layer": name, "units": "1"})
    timestep = (CALL, np.array(told, np.float64), {"long_name": "what the network was told"})
    return xr.Dataset({"activation": variable}, coords={"timestep": timestep})


def _dims(rank: int) -> tuple[str, ...]:
    """Names of a layer's axes, by how many there are."""
    known = {4: (CASE, CHANNEL, Y, X), 3: (CASE, TOKEN, CHANNEL), 2: (CASE, CHANNEL), 1: (CASE,)}
    return known.get(rank, tuple(f"axis_{at}" for at in range(rank)))
