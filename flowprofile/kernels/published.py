"""A gradient volume as the thesis' code computes it (compat="thesis-2023"), for comparison with `gradients.volume`.

Its input is the image *and* the planes of the label, over all of which it adds up; its target is a pixel of the step's
mean, and a pixel whose target is 0 is taken for masked. Scale and identity, which the thesis' Eq 4.1.1 drops, are in
its code. The code leaves the rows of skipped pixels as memory happened to be; here they are 0.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from flowprofile.errors import DefinitionError
from flowprofile.kernels.gradients import REPLICAS, Eps


def volume(
    eps: Eps,
    x: Tensor,
    *,
    pixels: Tensor,
    factors: tuple[float, float],
    identity: bool = True,
    first: nn.Module | None = None,
    skips_zeros: bool = False,
    replicas: int = REPLICAS,
) -> Tensor:
    """Rows at the pixels, added up over all that the network is given, [pixel y x].

    Parameters
    ----------
    eps, x, pixels, factors, identity, replicas
        As for `gradients.volume`.
    first
        The network's first layer: what it is given (colours, then the label's planes) is differentiated with respect
        to. None: the colours alone.
    skips_zeros
        The row of a pixel whose colours add up to exactly 0 in the step's mean is 0.
    """
    c_x, c_eps = factors
    pieces = [x.new_empty((0, *x.shape[1:]))]
    with torch.inference_mode(mode=False), torch.enable_grad():
        inputs = x.detach().clone().expand(replicas, *x.shape).contiguous().requires_grad_()
        with _given_to(first) as given:
            out = eps(inputs)
        source = _planes(given, inputs) if first is not None else inputs
        mean = (c_x * inputs + c_eps * out).detach().sum(1)
        lane = torch.arange(replicas, device=x.device)
        for at in range(0, len(pixels), replicas):
            wanted = pixels[at : at + replicas]
            y, column = torch.cat([wanted, pixels[:1].expand(replicas - len(wanted), 2)]).unbind(1)
            (found,) = torch.autograd.grad(out[lane, :, y, column].sum(), source, retain_graph=True)
            rows = c_eps * found.sum(1)
            if identity:
                rows[lane, y, column] += c_x * x.shape[0]
            if skips_zeros:
                rows[mean[lane, y, column] == 0.0] = 0.0
            pieces.append(rows[: len(wanted)])
    return torch.cat(pieces)


@contextmanager
def _given_to(layer: nn.Module | None) -> Iterator[list[Tensor]]:
    """What the layer is called with."""
    given: list[Tensor] = []
    if layer is None:
        yield given
        return
    hook = layer.register_forward_pre_hook(lambda module, args: given.append(args[0]))
    try:
        yield given
    finally:
        hook.remove()


def _planes(given: list[Tensor], inputs: Tensor) -> Tensor:
    if len(given) == 1 and given[0].ndim == 4 and given[0].shape[1] > inputs.shape[1]:
        return given[0]
    shown = ", ".join(str(list(one.shape)) for one in given) or "nothing"
    raise DefinitionError(
        "The network's first layer is not given the label as planes beside the image, once in a call.",
        consequence="There is no gradient with respect to the label's planes to add.",
        remedy='leave out compat="thesis-2023"',
        evidence=f"it was given {shown} for an image {list(inputs.shape)}",
    )
