"""What it costs to keep the activations of a network of 51 million weights, beside nnsight, in time and in memory.

Bare sampling, our ways and nnsight take the same steps in turn, in a changing order, and each is divided by the bare
run of its own round. nnsight is no dependency: without it only our rows are printed. To put it beside an installation
without touching its torch: pip install --no-deps --target FOLDER nnsight==0.8.1 greenlet websocket-client zstandard
httpx httpcore h11, and PYTHONPATH=FOLDER python -m benchmarks capture.
"""

import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import torch
from torch import Tensor, nn

import flowprofile as fp
from benchmarks.harness import Row, exact, peak, summary
from flowprofile import running
from flowprofile.assembly import Assembled
from flowprofile.cases import Case
from flowprofile.definitions import Pipeline
from flowprofile.models.live import LiveDenoiser
from flowprofile.models.numerics import settle
from flowprofile.models.taps import Prepared, firings, prepared, tapping
from flowprofile.store.layout import StoreLayout
from flowprofile.time.sample import sample
from flowprofile.time.schedule import linear
from flowprofile.time.steps import respaced

NNSIGHT: Final = "0.8.1"
"""The version whose figures are kept; another one is measured too, and named."""
LAYERS: Final = ("*.resnets.?", "*.attn2")
BATCH: Final = 2
CASES: Final = tuple(Case(seed, 0) for seed in range(BATCH))
SCHEDULE: Final = linear()
STEPS: Final = (4, 96, 192)
"""Of runs whose memory is compared: the second fills several blocks of states, the third twice as many."""
QUICK: Final = StoreLayout(durability="none")
Kept: TypeAlias = list[dict[str, Tensor]]
"""What was captured, by step and layer."""
CHILD: Final = (
    "from benchmarks import bench_capture; bench_capture.child({way!r}, {steps}, {folder!r}, tiny={tiny})"
)


def rows(*, tiny: bool = False) -> list[Row]:
    """A UNet2DConditionModel with weights of chance, 4 x 32 x 32 latents of two seeds, every step looked at."""
    settle()
    torch.set_num_threads(1)
    network = unet(tiny=tiny)
    model = told(network)
    layers = tuple(firings(model, LAYERS, lambda: _sample(model, 1)))
    with tempfile.TemporaryDirectory() as folder:
        found = _times(model, network, layers, Path(folder), tiny=tiny)
        return [*found, *_peaks(Path(folder), tiny=tiny)]


def unet(*, tiny: bool) -> nn.Module:
    """The network: 51 million weights, or a few thousand."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    made: nn.Module = UNet2DConditionModel(
        sample_size=8 if tiny else 32, in_channels=4, out_channels=4, layers_per_block=1, attention_head_dim=8,
        block_out_channels=(8, 16, 16) if tiny else (128, 256, 512), norm_num_groups=8 if tiny else 32,
        cross_attention_dim=16 if tiny else 512, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    )  # fmt: skip
    return made.eval().requires_grad_(False)


class Told(nn.Module):
    """A U-Net that is told one text whatever the label is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.unet = network
        self.text: Tensor
        width = int(cast(Any, network).config.cross_attention_dim)
        self.register_buffer("text", torch.randn(1, 77, width, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        out: Tensor = self.asked(x, index, encoder_hidden_states=self.text.expand(len(x), -1, -1))
        return out

    def asked(self, x: Tensor, index: Tensor, **texts: Tensor) -> Tensor:
        """What the U-Net puts out."""
        out: Tensor = self.unet(x, index, **texts, return_dict=False)[0]
        return out


class Traced(Told):
    """The same through nnsight, which keeps what some modules put out."""

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        import nnsight

        super().__init__(network)
        self.traced = nnsight.NNsight(network)
        self.layers = [layer.removeprefix("unet.") for layer in layers]
        self.kept: Kept = []

    def asked(self, x: Tensor, index: Tensor, **texts: Tensor) -> Tensor:
        import nnsight

        with self.traced.trace(x, index, **texts, return_dict=False):
            found = nnsight.save([])
            for layer in self.layers:
                found.append(self.traced.get(layer).output)
            out = self.traced.output.save()
        self.kept.append({f"unet.{layer}": a for layer, a in zip(self.layers, found, strict=True)})
        eps: Tensor = out[0]
        return eps


def told(network: nn.Module) -> LiveDenoiser:
    """The network as a model."""
    side = int(cast(Any, network).config.sample_size)
    return fp.denoiser(Told(network), (4, side, side), name="narrow")


def traced(network: nn.Module, layers: Sequence[str], like: LiveDenoiser) -> tuple[LiveDenoiser, Traced]:
    """A copy of the network through nnsight, which wraps the forwards of what it is given."""
    module = Traced(copy.deepcopy(network), layers)
    return LiveDenoiser(module, like.card), module


def installed() -> str:
    """The version of nnsight; empty where there is none."""
    try:
        return version("nnsight")
    except PackageNotFoundError:
        return ""


def _sample(model: Any, steps: int) -> None:
    for _ in sample(model, CASES, schedule=SCHEDULE, grid=respaced(1000, steps), batch=BATCH):
        pass


def _captured(model: LiveDenoiser, taps: Prepared, steps: int) -> Kept:
    """Every step's outputs of the layers, as the modules put them out."""
    kept: Kept = []
    assert model.module is not None
    with tapping(model.module, taps) as seen:
        states = sample(model, CASES, schedule=SCHEDULE, grid=respaced(1000, steps), batch=BATCH)
        for step in states:
            if step.eps is not None:
                kept.append({layer: seen[layer] for layer in seen})
    return kept


def _run(model: object, steps: int, layers: Sequence[str], *, keep: str = "::1") -> Assembled:
    table: dict[str, Any] = {
        "model": model, "sampler": {"steps": steps}, "cases": {"seeds": f"0:{BATCH}", "labels": [0]},
        "numerics": {"batch": BATCH}, "stages": {"activations": {"layers": list(layers), "keep": keep}},
    }  # fmt: skip
    return running.assembled(Pipeline.model_validate(table))


def _times(
    model: LiveDenoiser, network: nn.Module, layers: tuple[str, ...], folder: Path, *, tiny: bool
) -> list[Row]:
    """CPU time of each way over that of bare sampling in the same round."""
    steps, rounds = (1, 1) if tiny else (8, 9)
    assert model.module is not None
    taps = prepared(model.module, layers)
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: _sample(model, steps),
        "ours": lambda: _captured(model, taps, steps),
        "all": _stored(_run(model, steps, layers), folder),
        "fourth": _stored(_run(model, steps, layers, keep="::1" if tiny else "::4"), folder),
    }
    theirs = _theirs(model, network, layers, steps) if installed() else None
    if theirs is not None:
        ways["nnsight"] = theirs
    spent = _rounds(ways, rounds)
    ratios = {way: [a / b for a, b in zip(spent[way], spent["bare"], strict=True)] for way in ways}
    size = sum(a.numel() * a.element_size() for a in _captured(model, taps, 1)[0].values()) / 2**20
    count = sum(weight.numel() for weight in network.parameters())
    what = f"outputs of {len(layers)} layers of a U-Net of {count / 1e6:.1f} M parameters"
    note = f"4 x 32 x 32 latents, {BATCH} seeds, {steps} steps, {size:.1f} MiB a step, {min(spent['bare']):.2f} s bare"
    made = [
        summary(f"{what}, every step, kept in memory, against bare sampling", ratios["ours"],
                target="" if tiny else "<= 1.05x", note=note),
        summary("the same by a run into a store, against bare sampling", ratios["all"], target=""),
        summary("the same, every fourth step into a store, against bare sampling", ratios["fourth"], target=""),
    ]  # fmt: skip
    if theirs is None:
        print(
            f"nnsight is not installed, its rows are left out: pip install nnsight=={NNSIGHT}, or see bench_capture.py",
            file=sys.stderr,
        )
        return made
    apart = _apart(_captured(model, taps, steps), theirs(), steps * len(layers))
    return [
        *made,
        summary(f"the same kept in memory by nnsight {installed()}, against bare sampling", ratios["nnsight"], target=""),
        exact("tensors that differ between ours in memory and nnsight's", apart, target="<= 0",
              note=f"of {steps * len(layers)}"),
    ]  # fmt: skip


def _stored(ready: Assembled, folder: Path) -> Callable[[], object]:
    """A whole run into a store of its own; opening it and planning are in it."""

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as url:
            running.run(ready, into=Path(url) / "store", layout=QUICK)

    return run


def _theirs(model: LiveDenoiser, network: nn.Module, layers: Sequence[str], steps: int) -> Callable[[], Kept]:
    """The same steps through nnsight, and what it kept of them."""
    through, module = traced(network, layers, model)

    def capture() -> Kept:
        module.kept = []
        _sample(through, steps)
        return module.kept

    return capture


def _rounds(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each way in each round; every round begins with another one, after one for warmth."""
    spent: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for number in range(rounds + 1):
        for way in order[number % len(order) :] + order[: number % len(order)]:
            start = time.process_time_ns()
            ways[way]()
            if number:
                spent[way].append((time.process_time_ns() - start) / 1e9)
    return spent


def _apart(one: Kept, other: Kept, count: int) -> int:
    """How many tensors of two captures are not the same bits."""
    pairs = [(a[layer], b[layer]) for a, b in zip(one, other, strict=True) for layer in a]
    assert len(pairs) == count
    return sum(not torch.equal(a, b) for a, b in pairs)


def _peaks(folder: Path, *, tiny: bool) -> list[Row]:
    """Peaks of whole processes that capture more and more steps."""
    few, some, many = (1, 1, 1) if tiny else STEPS
    ours = {steps: _peak("ours", steps, folder, tiny=tiny) for steps in (few, some, many)}
    told_of = ", ".join(f"{peak >> 20} MiB with {steps} steps" for steps, peak in ours.items())
    found = [
        exact(f"peak memory of a run of {many} steps into a store, against {some}", ours[many] / ours[some],
              target="" if tiny else "<= 1.05x", note=told_of)
    ]  # fmt: skip
    if installed() and not tiny:
        theirs = {steps: _peak("nnsight", steps, folder, tiny=tiny) for steps in (few, some)}
        told_of = ", ".join(f"{peak >> 20} MiB with {steps} steps" for steps, peak in theirs.items())
        name = f"peak memory of {some} steps kept by nnsight {installed()}, against {few}"
        found.append(exact(name, theirs[some] / theirs[few], target="", note=told_of))
    return found


def _peak(way: str, steps: int, folder: Path, *, tiny: bool) -> int:
    code = CHILD.format(way=way, steps=steps, folder=str(folder / f"{way}{steps}"), tiny=tiny)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def child(way: str, steps: int, folder: str, *, tiny: bool) -> None:
    """Capture so many steps and print this process's peak."""
    settle()
    network = unet(tiny=tiny)
    model = told(network)
    if way == "ours":
        running.run(_run(model, steps, LAYERS), into=folder, layout=QUICK)
    else:
        layers = tuple(firings(model, LAYERS, lambda: _sample(model, 1)))
        through, _ = traced(network, layers, model)
        _sample(through, steps)
    print(peak())
