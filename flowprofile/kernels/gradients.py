"""Gradients of a sampling step: rows of its Jacobian, sums and sketches of them, and gradients at layers.

The step is x_t = c_x x + c_eps eps(x) + noise, so its Jacobian is c_x I + c_eps d eps / d x (the thesis' Eq 4.1.1 drops
scale and identity). Only eps is differentiated and the identity is added afterwards: differentiating the mean loses
the network's part in low precision, and hides it in comparisons in high precision. What a caller's `eps` builds
inside, such as the planes of a label, is never differentiated.

The thesis goes backwards once per pixel. Here the input is repeated, so that one forward pass carries as many pixels
at once as it has rows, and every further backward pass on the same graph carries as many again. A row of the batch
knows nothing of the others, so the gradient of a pixel has the same bits whichever pixels it is asked for with.
Vectorised and batched forms of autograd are not used: attention layers of real U-Nets refuse them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowprofile.errors import DefinitionError
from flowprofile.models.denoiser import Denoiser
from flowprofile.models.taps import tapping
from flowprofile.time.noise import words

Eps: TypeAlias = Callable[[Tensor], Tensor]
"""eps of x[row channel y x]; label and network index are the same for every row, or fixed row by row."""
Reduce: TypeAlias = Literal["sum", "abs", "l2", "none"]
"""Over the input's colour channels: signed sum (thesis), sum of absolute values, Euclidean norm, or not at all."""

REPLICAS: Final = 16
"""Rows of the batch that carries pixels backwards; part of a volume's numerics, since other sizes have other bits.

Measured on one core, a U-Net of width 16, against one backward pass per pixel: with 8, 16, 32 and 64 rows 5.2x, 6.3x,
6.9x and 5.1x for 64 pixels at 16 px, 6.5x, 8.8x, 10.4x and 7.4x for 256, and 3.8x, 4.4x, 3.9x and 2.7x for 256 pixels at
32 px. Larger images fill the cache with fewer rows, and a mask of few pixels leaves rows unused, so not 32.
"""
_IN_FLIGHT: Final = 6
"""Copies of the largest activation that exist while it is made or differentiated, a convolution's scratch memory among
them; two to five were measured.
"""


@contextmanager
def _graph() -> Iterator[None]:
    """Autograd records, whatever mode the caller is in."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


@_graph()
def volume(
    eps: Eps,
    x: Tensor,
    *,
    pixels: Tensor,
    factors: tuple[float, float],
    reduce: Reduce = "sum",
    identity: bool = True,
    replicas: int = REPLICAS,
) -> Tensor:
    """Rows of d x_t / d x at chosen pixels, [pixel y x]; with reduce="none" [pixel channel y x].

    The row of a pixel is the gradient of the sum over colour channels of x_t at that pixel (METHODS: PGV). A pixel is
    chosen by its place: that its value is 0 means nothing. Cost: one forward and ceil(pixels / replicas) backward
    passes of a batch; see `memory_bytes`. Weights that ask for gradients get none, but make the graph keep more.

    Parameters
    ----------
    eps, x
        The denoiser with everything but its input fixed, and the state before the step, [channel y x].
    pixels
        (y, x) of the rows, int64 [pixel 2], in any order.
    factors
        c_x and c_eps of the step.
    reduce
        What is done to the input's colour channels, after the identity is added.
    identity
        False: only the part that the network contributes.
    replicas
        Rows of the batch.

    Raises
    ------
    DefinitionError
        For pixels that are no places in the image, and for an `eps` that cannot be differentiated.
    """
    c_x, c_eps = factors
    _check_pixels(pixels, x)
    own = c_x if identity else 0.0
    pieces = [
        _reduced(_add_identity(c_eps * rows, places, own), reduce)
        for rows, places in _backwards(eps, x, pixels.to(x.device), replicas)
    ]
    empty = x.new_empty((0, *(x.shape if reduce == "none" else x.shape[1:])), dtype=_wide(x))
    return torch.cat([empty, *pieces])[: len(pixels)]


@_graph()
def signed_sum(
    eps: Eps, x: Tensor, mask: Tensor, *, factors: tuple[float, float], identity: bool = True
) -> Tensor:
    """The sum of a mask's rows, reduced by "sum", in one backward pass for a whole batch.

    x[row channel y x] and mask bool [y x] or [row y x] give [row y x].
    """
    c_x, c_eps = factors
    chosen = _checked_mask(mask, x)
    rows = c_eps * _pulled(eps, x, chosen.to(x.dtype)).sum(1)
    return rows + c_x * x.shape[1] * chosen.to(rows.dtype) if identity else rows


@_graph()
def energy(
    eps: Eps,
    x: Tensor,
    *,
    pixels: Tensor,
    factors: tuple[float, float],
    identity: bool = True,
    probes: int = 8,
    seed: int = 0,
    replicas: int = REPLICAS,
) -> Tensor:
    """An estimate of the sum over pixels of squared rows (reduced by "sum"), [y x], from random signs; unbiased.

    With random signs s, the mean of (sum_k s_k row_k)^2 is the sum of squares plus the products of different rows, each
    with the mean of its signs' products (Hutchinson, 1990). Rows of neighbours are alike, so independent signs are
    not enough where a network looks no further than that; here they cancel exactly for pixels that are near one another:
    see `_signs`. The identity's part is known and added; only its cross term with the network's own diagonal is
    estimated.

    Measured with 8 probes, faces32, 256 pixels, the network's part: correlation of the root with the exact one .998
    or more (independent signs: .987 near the image), total within 1 %; the error at one pixel of a dense mask stays
    about 40 %.

    Parameters
    ----------
    eps, x, factors, identity
        As for `volume`.
    pixels
        As for `volume`; a pixel named twice counts once.
    probes
        How many sign vectors; each costs one row of a backward pass. Powers of two serve best.
    seed
        The signs are a function of it and of the set of pixels.
    replicas
        Rows of a batch; more probes take several.
    """
    c_x, c_eps = factors
    _check_pixels(pixels, x)
    inside = torch.zeros(x.shape[1:], dtype=torch.bool, device=x.device)
    inside[pixels[:, 0], pixels[:, 1]] = True
    signs = torch.from_numpy(_signs(seed, probes, inside.cpu().numpy())).to(x)
    total = torch.zeros(x.shape[1:], dtype=_wide(x), device=x.device)
    diagonal = torch.zeros_like(total)
    batch = x.expand(replicas, *x.shape)
    for first in range(0, probes, replicas):
        part = torch.zeros((replicas, *x.shape[1:]), dtype=x.dtype, device=x.device)
        part[: probes - first] = signs[first : first + replicas]
        sketch = _pulled(eps, batch, part).sum(1)
        total = total + sketch.square().sum(0)
        diagonal = diagonal + (sketch * part).sum(0)
    found = c_eps**2 * total / probes
    if not identity:
        return found
    own = c_x * x.shape[0] * inside.to(found.dtype)
    return found + 2.0 * c_eps * own * diagonal / probes + own**2


@_graph()
def layer_gradients(
    eps: Eps,
    x: Tensor,
    mask: Tensor,
    *,
    model: nn.Module | Denoiser,
    layers: Sequence[str],
    factors: tuple[float, float],
) -> dict[str, Tensor]:
    """Gradient at each layer's output of the sum of a mask's pixels of x_t, [row channel y x] by layer.

    One forward and one backward pass for all layers, all pixels and a whole batch x[row channel y x]; it equals the sum
    of the thesis' passes, one for each pixel. A layer that eps does not depend on has the gradient 0, one that does not
    run is refused. Under guidance, the layers are those of the conditional call, of the guided eps.
    """
    _, c_eps = factors
    chosen = _checked_mask(mask, x).to(x.dtype)
    if not layers:
        return {}
    with tapping(model, layers, graph=True) as seen:
        out = eps(_own(x))
        # Read first: without one of these layers in it, eps has no graph, and its absence is the better news.
        outputs = [seen[layer] for layer in layers]
        target = (_differentiable(out, x) * chosen[:, None]).sum()
        found = torch.autograd.grad(target, outputs, materialize_grads=True)
    return {layer: c_eps * gradient.to(_wide(x)) for layer, gradient in zip(layers, found, strict=True)}


@_graph()
def memory_bytes(
    eps: Eps, x: Tensor, *, pixels: int, reduce: Reduce = "sum", replicas: int = REPLICAS
) -> int:
    """Projected peak of what `volume` allocates: saved activations, gradients in flight, and the result.

    x[channel y x] and `eps` may live on the meta device, where nothing is computed; `eps` must take any number of rows.
    Of the scratch memory of convolutions no more is in it than `_IN_FLIGHT` leaves for it.
    """
    # Not one row: then some copies are left out. What does not grow with the rows are the weights.
    two, _ = _saved(eps, x, rows=2)
    three, largest = _saved(eps, x, rows=3)
    activations = replicas * (three - two)
    in_flight = replicas * _IN_FLIGHT * -(-largest // 3)
    number = torch.finfo(_wide(x)).bits // 8
    # The pieces and, while they are joined, the whole.
    result = 2 * pixels * prod(x.shape if reduce == "none" else x.shape[1:]) * number
    return activations + in_flight + result


def _backwards(eps: Eps, x: Tensor, pixels: Tensor, replicas: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Gradients of eps at the pixels, a full batch at a time, with the places they belong to: one forward, many
    backwards on its graph.
    """
    if not len(pixels):
        return
    # Unfilled rows ask for the first pixel again: what is done to a row never depends on how many are wanted.
    filled = torch.cat([pixels, pixels[:1].expand(-len(pixels) % replicas, 2)])
    places = filled.view(-1, replicas, 2).unbind(0)
    inputs = _own(x.expand(replicas, *x.shape)).requires_grad_()
    lane = torch.arange(replicas, device=x.device)
    out = _evaluated(eps, inputs)
    for number, place in enumerate(places):
        target = out[lane, :, place[:, 0], place[:, 1]].sum()
        (gradient,) = torch.autograd.grad(target, inputs, retain_graph=number + 1 < len(places))
        yield gradient.to(_wide(x)), place


def _pulled(eps: Eps, x: Tensor, weights: Tensor) -> Tensor:
    """Gradient of sum(weights * eps) in one pass: x[row channel y x], weights[row y x]."""
    inputs = _own(x).requires_grad_()
    target = (_evaluated(eps, inputs) * weights[:, None]).sum()
    (gradient,) = torch.autograd.grad(target, inputs)
    return gradient.to(_wide(x))


def _add_identity(rows: Tensor, places: Tensor, c_x: float) -> Tensor:
    """The target sums over colours, so a pixel's row has the identity in each of its own colours."""
    if c_x:
        rows[torch.arange(len(rows), device=rows.device), :, places[:, 0], places[:, 1]] += c_x
    return rows


def _reduced(rows: Tensor, reduce: Reduce) -> Tensor:
    match reduce:
        case "sum":
            return rows.sum(1)
        case "abs":
            return rows.abs().sum(1)
        case "l2":
            return rows.square().sum(1).sqrt()
        case "none":
            return rows


def _signs(seed: int, probes: int, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """+1 and -1 inside, 0 outside, [probe y x].

    n probes share one random sign per pixel and differ by rows of a Hadamard matrix: a pixel of colour c takes its
    column c. Columns are orthogonal, so pixels of different colours cancel exactly, and pixels of one colour lie far
    apart (probing: Tang and Saad, 2012). A number of probes that is no power of two is a sum of such groups.
    """
    found = np.zeros((probes, *inside.shape), dtype=np.float32)
    first = 0
    for size in (1 << bit for bit in reversed(range(probes.bit_length())) if probes >> bit & 1):
        drawn = words(seed, 0, -(-inside.size // 64), purpose="probe", draw=first).astype("<u8")
        common = np.unpackbits(drawn.view(np.uint8))[: inside.size].reshape(inside.shape)
        column = _colours(size, inside)
        for row in range(size):
            odd = np.bitwise_count(row & column) & 1
            found[first + row] = np.where(inside, 1.0 - 2.0 * (odd ^ common), 0.0)
        first += size
    return found


def _colours(count: int, inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """One of `count` colours for each pixel inside, [y x]: row by row, the one whose nearest pixel is farthest."""
    height, width = inside.shape
    y, x = np.ogrid[1 - height : height, 1 - width : width]
    squared = y * y + x * x
    nearest = np.full((count, height, width), squared.max() + 1)
    found = np.zeros((height, width), dtype=np.int64)
    for row, column in np.argwhere(inside):
        colour = int(nearest[:, row, column].argmax())
        found[row, column] = colour
        distance = squared[height - 1 - row :, width - 1 - column :][:height, :width]
        np.minimum(nearest[colour], distance, out=nearest[colour])
    return found


def _saved(eps: Eps, x: Tensor, *, rows: int) -> tuple[int, int]:
    """Bytes that the graph of one call of so many rows keeps, in all and in its largest tensor."""
    sizes: dict[int, int] = {}
    largest = 0

    def note(kept: Tensor) -> Tensor:
        nonlocal largest
        storage = kept.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()
        if kept.ndim and kept.shape[0] == rows:
            largest = max(largest, storage.nbytes())
        return kept

    inputs = _own(x.expand(rows, *x.shape)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        # The result holds the graph, so that no storage is freed and counted again under its old number.
        out = _evaluated(eps, inputs)
    del out
    return sum(sizes.values()), largest


def _own(x: Tensor) -> Tensor:
    """A plain copy that no graph and, under `_graph`, no inference mode has a hold on."""
    return x.detach().clone(memory_format=torch.contiguous_format)


def _wide(x: Tensor) -> torch.dtype:
    """Gradients come in the type of x, and are scaled and added up in float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)


def _evaluated(eps: Eps, inputs: Tensor) -> Tensor:
    return _differentiable(eps(inputs), inputs)


def _differentiable(out: Tensor, x: Tensor) -> Tensor:
    if out.shape != x.shape or not out.requires_grad:
        fact = "has no graph" if out.shape == x.shape else f"has the shape {list(out.shape)}"
        raise DefinitionError(
            f"eps of x[{', '.join(map(str, x.shape))}] {fact}.",
            consequence="There is no derivative of the step to be had from it.",
            remedy="give a function of x that returns eps in x's own shape and does not detach it or run under no_grad",
        )
    return out


def _check_pixels(pixels: Tensor, x: Tensor) -> None:
    limits = torch.tensor(x.shape[1:]).to(pixels.device)
    if pixels.ndim != 2 or pixels.shape[1] != 2 or pixels.dtype != torch.int64:
        fact = f"Pixels are given as {pixels.dtype} {list(pixels.shape)}, not as int64 [pixel 2]."
    elif ((pixels < 0) | (pixels >= limits)).any():
        wrong = pixels[((pixels < 0) | (pixels >= limits)).any(1)][0].tolist()
        fact = f"The pixel (y, x) = {tuple(wrong)!r} is not in an image of {tuple(x.shape[1:])!r}."
    else:
        return
    raise DefinitionError(
        fact,
        consequence="Its row does not exist, or another pixel's would be stored in its name.",
        remedy="give (y, x) counted from 0 at the upper left, one pair a row",
    )


def _checked_mask(mask: Tensor, x: Tensor) -> Tensor:
    """The mask, for every row, where x is."""
    if mask.dtype != torch.bool or mask.shape[-2:] != x.shape[-2:]:
        raise DefinitionError(
            f"The mask is {mask.dtype} {list(mask.shape)} for x {list(x.shape)}.",
            consequence="Gradients would be scaled by its values, or belong to other pixels.",
            remedy="give bool [y x] or [row y x]; `strokes > 0` makes one of a drawing",
        )
    return mask.to(x.device).expand(len(x), *x.shape[-2:])
