"""Gradients of a step against the thesis' one backward pass per pixel, and how near to the truth they are."""

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from benchmarks import thesis
from benchmarks.harness import Row, compare, exact
from benchmarks.networks import small
from flowprofile.kernels import gradients
from flowprofile.models import zoo
from flowprofile.models.unet import UNet
from flowprofile.time.noise import noise
from flowprofile.time.rules import coefficients, rule
from flowprofile.time.schedule import linear

INDEX, LABEL = 300, 1
STEP = coefficients(rule("ddpm"), schedule=linear(), t_from=INDEX + 1, t_to=INDEX)
FACTORS = (STEP.x, STEP.eps)
LAYERS = (
    *(f"downs.{level}.2.fn" for level in range(4)),
    "mid_attn.fn",
    *(f"ups.{level}.2.fn" for level in range(3)),
)


def rows(*, tiny: bool = False) -> list[Row]:
    """A U-Net of width 16 for what a gradient costs, the trained faces for how well its energy is sketched."""
    torch.set_num_threads(1)
    side = 8 if tiny else 16
    return [
        _volume(side, _square(side, 2 if tiny else 8), ">= 6x", tiny=tiny),
        _volume(side, _every(side, 32 if tiny else 1), ">= 6x", tiny=tiny),
        _volume(side if tiny else 32, _every(side if tiny else 32, 32 if tiny else 4), ">= 4x", tiny=tiny),
        *_near(side if tiny else 32, tiny=tiny),
        *_sums(side, _square(side, 2 if tiny else 8), tiny=tiny),
        *_energies(tiny=tiny),
    ]  # fmt: skip


def _square(side: int, width: int) -> Tensor:
    mask = torch.zeros(side, side, dtype=torch.bool)
    first = (side - width) // 2
    mask[first : first + width, first : first + width] = True
    return mask


def _every(side: int, stride: int) -> Tensor:
    return (torch.arange(side * side) % stride == 0).view(side, side)


def _state(side: int) -> Tensor:
    return torch.from_numpy(noise(0, 0, (3, side, side)))


def _network(side: int) -> UNet:
    return cast(UNet, small(side).module)


def _eps(network: Callable[..., Tensor], *, index: int = INDEX, label: int = LABEL) -> gradients.Eps:
    """eps as a function of x alone."""
    return lambda x: network(x, torch.full((len(x),), index), torch.full((len(x),), label))


def _counted(eps: gradients.Eps, passes: list[int]) -> gradients.Eps:
    """The same, noting the rows of every backward pass."""

    def call(x: Tensor) -> Tensor:
        out = eps(x)
        # torch declares no types for it.
        out.register_hook(lambda gradient: passes.append(len(gradient)))  # type: ignore[no-untyped-call]
        return out

    return call


def _relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def _volume(side: int, mask: Tensor, target: str, *, tiny: bool) -> Row:
    network, x = _network(side), _state(side)
    eps, pixels, step = _eps(network), mask.nonzero(), thesis.Step(network, x, INDEX, LABEL, FACTORS)
    return compare(
        f"gradient volume, {side} px, {len(pixels)} pixels, against one backward pass per pixel",
        lambda: gradients.volume(eps, x, pixels=pixels, factors=FACTORS),
        lambda: thesis.volume(step, mask),
        target=target,
        tiny=tiny,
        pairs=5,
    )


def _double(network: UNet) -> UNet:
    """The network in float64; its time embedding is float32 whatever the weights are."""
    wide = copy.deepcopy(network).double()
    wide.time_mlp[0].register_forward_hook(lambda module, given, out: out.double())
    return wide


def _near(side: int, *, tiny: bool) -> list[Row]:
    """Distance from float64, of the network's part alone: with the identity in it every answer looks right."""
    network, x = _network(side), _state(side)
    options = {
        "pixels": _every(side, 32 if tiny else 4).nonzero()[:64],
        "factors": (0.0, 1.0),
        "identity": False,
    }
    found = gradients.volume(_eps(network), x, **options)  # type: ignore[arg-type]
    wanted = gradients.volume(_eps(_double(network)), x.double(), **options)  # type: ignore[arg-type]
    name = f"gradient volume, {side} px: relative distance of the eps part from float64"
    return [exact(name, _relative(found, wanted), target="<= 1e-5")]


def _sums(side: int, mask: Tensor, *, tiny: bool) -> list[Row]:
    """Sums over a mask: counted passes, and how far both ways are from each other and from float64."""
    network, x, passes = _network(side), _state(side), list[int]()
    wide, count, each = _double(network), int(mask.sum()), f"{int(mask.sum())} pixels, {side} px"
    loop, ours = _sums_both(network, x, mask, passes)
    loop64, ours64 = _sums_both(wide, x.double(), mask, [])
    step = thesis.Step(network, x, INDEX, LABEL, FACTORS)
    found = []
    for number, what in enumerate(("signed sum", f"gradients at {len(LAYERS)} layers")):
        keys = [key for key in ours if (key == "") == (number == 0)]
        apart, exactly, mine, theirs = (
            max(_relative(a[key], b[key]) for key in keys)
            for a, b in ((ours, loop), (ours64, loop64), (ours, loop64), (loop, loop64))
        )
        found += [
            exact(f"{what}, {each}: backward passes, thesis / here", count / passes[number], target=f">= {count}x"),
            exact(f"{what}, {each}: relative distance from the passes' sum in float64", exactly, target="<= 1e-6"),
            exact(f"{what}, {each}: distance from float64, one float32 pass against the float32 passes' sum",
                  mine / theirs, target="<= 1x",
                  note=f"{mine:.3g} and {theirs:.3g} from float64, {apart:.3g} from each other"),
        ]  # fmt: skip
    return [
        *found,
        compare(f"gradients at {len(LAYERS)} layers, {each}, against a pass per pixel",
                lambda: gradients.layer_gradients(_eps(network), x[None], mask, model=network, layers=LAYERS, factors=FACTORS),
                lambda: thesis.layer_gradients(step, mask, LAYERS), target="", tiny=tiny, pairs=5),
    ]  # fmt: skip


def _sums_both(
    network: UNet, x: Tensor, mask: Tensor, passes: list[int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The eps part of the signed sum, under "", and layers' gradients: the thesis' way, and ours."""
    eps, factors = _counted(_eps(network), passes), (0.0, STEP.eps)
    step = thesis.Step(network, x, INDEX, LABEL, factors)
    loop = {"": thesis.volume(step, mask).sum(0), **thesis.layer_gradients(step, mask, LAYERS)}
    total = gradients.signed_sum(eps, x[None], mask, factors=factors)[0]
    layers = gradients.layer_gradients(eps, x[None], mask, model=network, layers=LAYERS, factors=factors)
    return loop, {"": total, **layers}


def _energies(*, tiny: bool) -> list[Row]:
    """Near the image rows of neighbours are most alike, which is where independent signs fail."""
    found = []
    for index in (40,) if tiny else (40, 300, 800):
        found += _energy(index, tiny=tiny)
    return found


def _energy(index: int, *, tiny: bool) -> list[Row]:
    faces = zoo.load("faces32")
    pixels = _every(32, 64 if tiny else 4).nonzero()
    abar = linear().alpha_bar(index + 1)
    x = 0.5 * abar**0.5 + (1 - abar) ** 0.5 * _state(32)
    eps, passes = _eps(faces, index=index, label=6), list[int]()
    part = {"pixels": pixels, "factors": (0.0, 1.0), "identity": False}
    wanted = gradients.volume(eps, x, **part).double().square().sum(0)  # type: ignore[arg-type]
    sketch = gradients.energy(_counted(eps, passes), x, **part, probes=8, replicas=8).double()  # type: ignore[arg-type]
    roots = torch.stack([sketch.sqrt().flatten(), wanted.sqrt().flatten()])
    correlation = float(torch.corrcoef(roots)[0, 1])
    total = abs(float(sketch.sum() / wanted.sum()) - 1)
    reached = wanted > 1e-3 * wanted.max()
    error = float((sketch / wanted - 1)[reached].square().mean().sqrt())
    case = f"energy of {len(pixels)} pixels from 8 probes, faces32, index {index}"
    aims = ("", "", "") if tiny else (">= 16x", ">= 0.99", "<= 0.02")
    return [
        exact(f"{case}: rows that go backwards, thesis / here", len(pixels) / sum(passes), target=aims[0]),
        exact(f"{case}: correlation of the root, eps part", correlation, target=aims[1],
              note=f"root mean square error at one pixel {100 * error:.0f} %"),
        exact(f"{case}: error of the total", total, target=aims[2]),
    ]  # fmt: skip
