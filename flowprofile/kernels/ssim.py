"""SSIM of tensors where they are: on the host through NumPy, on a device through torch, with the same bits.

The arithmetic is `flowprofile.measures.windows`, one code for both. On a CPU its NumPy form is faster than torch's
(about 1.4x, measured: a call costs less), and `flowprofile.kernels.fused` faster than both where it can be used, so
a host tensor is handed over as it is, without a copy.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from flowprofile.kernels import fused
from flowprofile.measures import windows


def ssim_consecutive(frames: Tensor, *, window: int = 7, data_range: float) -> Tensor:
    """SSIM of each frame with the one before it: frames[... time channel y x] -> [... time - 1] float64."""
    return _run(windows.consecutive, fused.consecutive, [frames], window=window, data_range=data_range)


def ssim_to(frames: Tensor, reference: Tensor, *, window: int = 7, data_range: float) -> Tensor:
    """SSIM of each frame with its case's reference: [... time channel y x], [... channel y x] -> [... time]."""
    return _run(
        windows.to_reference, fused.to_reference, [frames, reference], window=window, data_range=data_range
    )


def ssim_between(
    frames: Tensor, pairs: Iterable[tuple[int, int]], *, window: int = 7, data_range: float
) -> Tensor:
    """SSIM of chosen pairs of members: frames[... member channel y x] -> [... pair] float64."""
    return _run(windows.between, fused.between, [frames], pairs, window=window, data_range=data_range)


class RunningSsim:
    """SSIM of each state with the one before it, inside a sampling loop."""

    def __init__(self, like: Tensor, *, window: int = 7, data_range: float) -> None:
        """`like` is any state: its shape [case channel y x] and its device."""
        self._host = like.device.type == "cpu"
        where: dict[str, Any] = {} if self._host else {"lib": torch, "device": like.device}
        self._running = windows.Running(tuple(like.shape), window=window, data_range=data_range, **where)

    def push(self, x: Tensor) -> Tensor | None:
        """SSIM with the state pushed before, [case] float64; None for the first."""
        values = self._running.push(x.detach().numpy() if self._host else x.detach())
        return torch.from_numpy(values) if self._host and values is not None else values


def _run(
    function: Any, on_host: Any, tensors: list[Tensor], *more: Any, window: int, data_range: float
) -> Tensor:
    options: dict[str, Any] = {"window": window, "data_range": data_range}
    device = tensors[0].device
    if device.type != "cpu":
        with torch.no_grad():
            found: Tensor = function(*tensors, *more, **options, lib=torch, device=device)
        return found
    return torch.from_numpy(on_host(*(tensor.detach().numpy() for tensor in tensors), *more, **options))
