"""What it costs to look inside the network, and what a stored trajectory saves when one looks later."""

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch

import flowprofile as fp
from benchmarks import thesis
from benchmarks.harness import Row, compare, exact
from benchmarks.networks import small
from flowprofile import running
from flowprofile.assembly import Assembled
from flowprofile.cases import Case
from flowprofile.definitions import Pipeline
from flowprofile.kernels.acting import Lane
from flowprofile.kernels.probing import TOGETHER, Watched
from flowprofile.models import reductions
from flowprofile.models.denoiser import Denoiser
from flowprofile.models.numerics import settle
from flowprofile.models.taps import Tap, tapping
from flowprofile.models.unet import UNet
from flowprofile.objects.probes import MaxChannel
from flowprofile.store.layout import StoreLayout
from flowprofile.time.noise import noise
from flowprofile.time.sample import sample
from flowprofile.time.schedule import linear
from flowprofile.time.steps import respaced

LAYERS = (
    *(f"downs.{level}.2.fn" for level in range(4)),
    *(f"ups.{level}.2.fn" for level in range(3)),
    "mid_attn.fn",
    "mid_block1",
    "mid_block2",
    "downs.0.3",
    "ups.0.3",
)
CASES = tuple(Case(seed, 0) for seed in range(8))
SCHEDULE = linear()
QUICK = StoreLayout(durability="none")


def rows(*, tiny: bool = False) -> list[Row]:
    """A U-Net of width 16 at 32 px, 8 seeds, unless a line says otherwise."""
    settle()
    torch.set_num_threads(1)
    side = 8 if tiny else 32
    with tempfile.TemporaryDirectory() as folder:
        return [
            _hooks(side, tiny=tiny),
            *_runs(side, Path(folder), tiny=tiny),
            *_stored(tiny=tiny),
            _replayed(side, tiny=tiny),
            *_layers(side, tiny=tiny),
        ]


def _network(side: int) -> Denoiser:
    return fp.denoiser(cast(UNet, small(side).module), (3, side, side), classes=16, name="narrow")


def _sample(denoiser: Denoiser, steps: int) -> None:
    for _ in sample(denoiser, CASES, schedule=SCHEDULE, grid=respaced(1000, steps), batch=8):
        pass


def _hooks(side: int, *, tiny: bool) -> Row:
    network, steps = _network(side), 1 if tiny else TOGETHER
    taps = [Tap(layer, reduce=reductions.strengths) for layer in LAYERS]

    def looking() -> None:
        with tapping(network, taps) as seen:
            states = sample(network, CASES, schedule=SCHEDULE, grid=respaced(1000, steps), batch=8)
            calls = [[seen[layer] for layer in LAYERS] for _ in islice(states, 1, None)]
        reductions.strongest([torch.cat(scores) for scores in zip(*calls, strict=True)])

    return compare(
        f"strongest channel of 12 layers while sampling, {side} px, against bare sampling",
        looking,
        lambda: _sample(network, steps),
        target="<= 1.02x",
        tiny=tiny,
        pairs=21,
    )


def _pipeline(model: object, *, steps: int, **stages: object) -> Assembled:
    table: dict[str, Any] = {
        "model": model, "sampler": {"steps": steps}, "cases": {"seeds": "0:8", "labels": [0]}, "stages": stages,
    }  # fmt: skip
    return running.assembled(Pipeline.model_validate(table))


def _runs(side: int, folder: Path, *, tiny: bool) -> list[Row]:
    """Whole runs, their stores included, against sampling alone."""
    network, steps = _network(side), 2 if tiny else 100
    chosen = {"layers": list(LAYERS)}
    channel: dict[str, Any] = {"max_channel": chosen}
    looks: dict[str, tuple[dict[str, Any], str]] = {
        "step SSIM and its null": ({"step_ssim": {"use": "ssim"}}, ""),
        "strongest channel of 12 layers": (channel, ""),
        "the same and every layer's distance from step to step": (
            {**channel, "layer_distance": chosen},
            "" if tiny else "<= 1.10x",
        ),
        "all activations of 12 layers at every step": (
            {"activations": chosen},
            "" if tiny else "<= 1.25x",
        ),
    }
    return [
        _run(network, _pipeline(network, steps=steps, **stages), folder, f"{what}, {side} px", target, tiny=tiny)
        for what, (stages, target) in looks.items()
    ]  # fmt: skip


def _run(network: Denoiser, ready: Assembled, folder: Path, what: str, target: str, *, tiny: bool) -> Row:
    steps = len(ready.context.grid) - 1

    def stored() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as url:
            running.run(ready, into=Path(url) / "store", layout=QUICK)

    return compare(
        f"a run of {steps} steps into a store, {what}, against bare sampling",
        stored,
        lambda: _sample(network, steps),
        target=target,
        tiny=tiny,
        pairs=5,
        note="opening the store and planning are in it",
        cost=True,
    )


def _stored(*, tiny: bool) -> list[Row]:
    """Forwards of objects at ten steps, with a stored trajectory and without."""
    steps, keep = (20, "::2") if tiny else (1000, "::100")
    looks: dict[str, Any] = {
        "activations": {"layers": "*.fn", "keep": keep},
        "max_channel": {"layers": "*", "keep": keep},
        "attention": {"layers": "*.fn", "keep": keep},
        "predicted_x0": {"keep": keep},
    }
    url = f"memory://inside-{steps}"
    running.run(_pipeline("digits", steps=steps, trajectory={}), into=url, layout=QUICK)
    wanted = _pipeline("digits", steps=steps, trajectory={}, **looks)
    again = running.plan(_pipeline("digits", steps=steps, **looks)).plan.forwards
    later = running.plan(wanted, into=url).plan.forwards
    done = running.run(wanted, into=url, layout=QUICK).forwards
    return [
        exact("four objects at ten kept steps: forwards, resampling / from the stored trajectory", again / later,
              target="" if tiny else ">= 50x", note=f"{again} and {later}"),
        exact("forwards of that run beyond those planned", abs(done - later), target="<= 0"),
    ]  # fmt: skip


def _watched(network: Denoiser, batch: int) -> Watched:
    return Watched(
        network, {"channel": MaxChannel(LAYERS, "sum", 0.1, None)}, {}, SCHEDULE, batch, torch.device("cpu")
    )


def _replayed(side: int, *, tiny: bool) -> Row:
    network = _network(side)
    lanes = [Lane(CASES[0], t + 1, t) for t in range(800, 0, -100)]
    x = torch.from_numpy(noise(0, 0, (8, 3, side, side)))
    together, alone = _watched(network, 8), _watched(network, 1)

    def one_by_one() -> None:
        for row, lane in enumerate(lanes):
            alone.ask([lane], x[row : row + 1], ["channel"], {})

    return compare(
        f"eight states of one case replayed in one call, {side} px, against eight calls of one row",
        lambda: together.ask(lanes, x, ["channel"], {}),
        one_by_one,
        target=">= 2x",
        tiny=tiny,
        pairs=11,
        note="a single state would be padded to eight rows here, so its calls would cost eight times as much",
    )


def _layers(side: int, *, tiny: bool) -> list[Row]:
    """One map per layer: all of them in one run, or one run of the sampler for each."""
    network, steps = _network(side), 1 if tiny else 2
    module = cast(UNet, network.module)
    taps = [Tap(layer, reduce=reductions.max_channel) for layer in LAYERS]

    def at_once() -> dict[str, list[torch.Tensor]]:
        found: dict[str, list[torch.Tensor]] = {layer: [] for layer in LAYERS}
        with tapping(network, taps) as seen:
            states = sample(network, CASES, schedule=SCHEDULE, grid=respaced(1000, steps), batch=8)
            for _ in islice(states, 1, None):
                for layer in LAYERS:
                    found[layer].append(seen[layer])
        return found

    def one_by_one() -> dict[str, list[torch.Tensor]]:
        return thesis.channels(module, LAYERS, lambda: _sample(network, steps))

    ours, theirs = at_once(), one_by_one()
    differing = sum(
        int((a != b).sum())
        for layer in LAYERS
        for a, b in zip(ours[layer], theirs[layer], strict=True)
    )  # fmt: skip
    return [
        compare(f"strongest channel of 12 layers in one run, {side} px, against a run for each layer",
                at_once, one_by_one, target="" if tiny else ">= 10x", tiny=tiny, pairs=5),
        exact("strongest channels that differ between the two", differing, target="<= 0"),
    ]  # fmt: skip
