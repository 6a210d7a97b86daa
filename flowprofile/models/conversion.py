"""Old checkpoints as weights files with a card: opened once, in a process of its own that may do nothing else.

A pickle decides what runs when it is opened. torch's reader of plain weights refuses everything but tensors in plain
containers; it is called in a child that may take so much memory and no more, and in which an audit hook ends every
attempt to reach a network, start a program or open a file for writing but the one that is asked for. What it writes
is read like a stranger's file.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import weights
from flowprofile.models.card import ModelCard
from flowprofile.models.layers import UNetConfig, size_fits

ROOM: Final = 8 << 30
"""Bytes of address space that opening a checkpoint may take besides four times its size; torch itself maps several."""
PATIENCE: Final = 600.0
"""Seconds that it may take."""
WRAPPERS: Final = ("model", "state_dict", "ema", "ema_model", "model_state_dict", "params", "net")
"""Names under which checkpoints keep their weights."""
PREFIXES: Final = ("module.", "model.", "denoise_fn.", "ema_model.", "unet.")
"""What trainers put before the names of weights."""
_CHILD: Final = """
import json, resource, sys
source, target, memory, wrappers = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
import torch
from safetensors.torch import save_file
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
def watch(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+") and args[0] != target
    if writes or event.partition(".")[0] in ("socket", "subprocess", "shutil") or event in (
            "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename", "ctypes.dlopen"):
        raise PermissionError(f"{event} is not allowed while a checkpoint is opened")
sys.addaudithook(watch)
found = torch.load(source, map_location="cpu", weights_only=True)
while isinstance(found, dict) and not any(isinstance(value, torch.Tensor) for value in found.values()):
    name = next((name for name in wrappers if isinstance(found.get(name), dict)), None)
    if name is None:
        break
    found = found[name]
tensors = {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)} if isinstance(found, dict) else {}
if not tensors:
    sys.exit("it holds no table of tensors: " + ", ".join(map(str, found))[:200] if isinstance(found, dict) else "it holds no table")
save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, target)
"""


def convert(
    checkpoint: str | Path,
    into: str | Path,
    *,
    size: int = 64,
    attributes: Sequence[str] = ("bangs", "male", "smile", "lipstick"),
    classes: int = 0,
    label_code: str | None = None,
    heads: int = UNetConfig().heads,
    pixel_range: tuple[float, float] = (0.0, 1.0),
    name: str | None = None,
) -> ModelCard:
    """Write a checkpoint of the thesis' U-Net as a weights file with a card, and return the card.

    Parameters
    ----------
    checkpoint
        What ``torch.save`` wrote: a state dict, or a table that holds one.
    into
        The weights file; what is there already is kept, and refused.
    size
        Side of the image; the weights do not say it.
    attributes, classes
        What labels mean; the defaults are the thesis'.
    label_code
        decimal, bits or classes; by default what the number of label planes implies.
    heads
        Heads of linear attention, which shapes do not say; the thesis has four.
    pixel_range
        Values of black and white.
    name
        How the model is called; by default as the checkpoint.

    Raises
    ------
    ModelError
        If the checkpoint holds more than tensors, cannot be opened, or is of another network.
    DefinitionError
        If its levels cannot halve the side.
    """
    checkpoint, into = Path(checkpoint), Path(into)
    if not into.name:
        raise DefinitionError(
            "The weights file has no name.", remedy="name one, such as faces.safetensors, or leave it out"
        )
    if into.exists():
        raise ModelError(f"{into} exists.", consequence="It is not overwritten.", remedy="give another name")
    space = LabelSpace(classes=classes) if classes else LabelSpace(tuple(attributes))
    with tempfile.TemporaryDirectory(prefix="flowprofile-convert-") as folder:
        tensors = _plain(weights.load(_opened(checkpoint, Path(folder) / "tensors.safetensors")))
    config = implied(
        {key: tuple(tensor.shape) for key, tensor in tensors.items()},
        label_code=label_code,
        space=space,
        heads=heads,
    )
    size_fits(size, len(config.mults))
    card = ModelCard(
        name=name or checkpoint.stem,
        architecture="unet",
        config={key: value for key, value in asdict(config).items() if value != getattr(UNetConfig(), key)},
        shape=(config.channels, size, size),
        labels=space,
        pixel_range=pixel_range,
    )
    _fits(tensors, config, checkpoint)
    weights.save(into, tensors, card)
    return card


def implied(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    label_code: str | None = None,
    space: LabelSpace | None = None,
    heads: int = UNetConfig().heads,
) -> UNetConfig:
    """The constructor arguments that the shapes of the thesis' U-Net imply, but for its heads.

    Raises
    ------
    ModelError
        If the names are not those of that network.
    """
    try:
        dim, channels = shapes["time_mlp.1.weight"][1], shapes["final_conv.1.weight"][0]
        levels = sum(f"downs.{level}.0.net.4.weight" in shapes for level in range(64))
        mults = tuple(shapes[f"downs.{level}.0.net.4.weight"][0] // dim for level in range(levels))
        planes = shapes["init_conv.weight"][1] - channels
        head_dim = shapes["mid_attn.fn.fn.to_qkv.weight"][0] // 3 // heads
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"The checkpoint has no weight {error.args[0]!r}: it is not of the thesis' U-Net.",
            consequence="What network the numbers belong to is not known.",
            remedy="build the network in Python, load the weights into it, and wrap it: flowprofile.denoiser(net, shape)",
            evidence=f"it has {len(shapes)} weights, the first of them {', '.join(sorted(shapes)[:4])}",
        ) from error
    several = "classes" if space is not None and space.classes == planes else "bits"
    return UNetConfig(
        dim=dim, channels=channels, mults=mults, heads=heads, head_dim=head_dim, label_width=planes,
        label_code=label_code or ("decimal" if planes <= 1 else several), label_embedding="label_mlp.weight" in shapes,
    )  # fmt: skip


def _opened(checkpoint: Path, target: Path) -> Path:
    if not checkpoint.is_file():
        raise ModelError(f"There is no checkpoint at {str(checkpoint)!r}.", remedy="check the path")
    memory = ROOM + 4 * checkpoint.stat().st_size
    command = [sys.executable, "-c", _CHILD, str(checkpoint), str(target), str(memory), json.dumps(WRAPPERS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise _unopened(checkpoint, f"it took more than {PATIENCE:g} s") from error
    if done.returncode != 0 or not target.is_file():
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        raise _unopened(checkpoint, lines[-1][:400] if lines else f"the reader ended with {done.returncode}")
    return target


def _unopened(checkpoint: Path, evidence: str) -> ModelError:
    return ModelError(
        f"The checkpoint {str(checkpoint)!r} was not opened.",
        consequence="It holds something that is not weights in plain containers, or is damaged; nothing of it was run.",
        remedy="where you trust it, load it in a session of your own and save its state_dict() alone: torch.save(net.state_dict(), path)",
        evidence=evidence,
    )


def _plain(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The weights under the network's own names, float32."""
    found = dict(tensors)
    while prefix := next(
        (one for one in PREFIXES if found and all(name.startswith(one) for name in found)), None
    ):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return {name: tensor.float() for name, tensor in found.items()}


def _fits(tensors: Mapping[str, Any], config: UNetConfig, checkpoint: Path) -> None:
    import torch

    from flowprofile.models.unet import UNet

    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in UNet(config).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    odd = next(
        (name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)), None
    )
    if odd is not None:
        raise ModelError(
            f"{checkpoint} is not of the thesis' U-Net: of {odd!r} it holds {found.get(odd, 'nothing')}, and the network"
            f" that its other weights imply wants {wanted.get(odd, 'nothing')}.",
            consequence="A network with missing or foreign weights computes something nobody trained.",
            remedy="build the network in Python, load the weights into it, and wrap it: flowprofile.denoiser(net, shape)",
        )
