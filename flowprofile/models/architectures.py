"""What can be trained: the thesis' U-Net, and two networks of diffusers' that learn from the very same pictures.

A finding about one network may be about its layout. So the faces can be learned by three that share nothing but the
data, the loss and the noise. The thesis' U-Net becomes one file, the others a folder as diffusers would have saved it.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from flowprofile.models import adapters
from flowprofile.models.layers import parse_config
from flowprofile.models.libraries import library
from flowprofile.models.unet import UNet

OURS: Final = "unet"
"""The thesis' layout."""


def fresh(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """A network to be trained, its weights drawn from torch's generator."""
    if architecture == OURS:
        return UNet(parse_config(config))
    network = adapters.constructed(architecture, config)
    STARTS.get(architecture, _as_it_is)(network)
    # Its own training mode would drop labels by torch's generator, which no recipe knows.
    return network.eval()


def predicted(architecture: str, network: nn.Module, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
    """What the network puts out for x[row channel y x], index[row] and label[row]."""
    if architecture == OURS:
        out: Tensor = network(x, index, label)
        return out
    return adapters.CALLS[architecture](network, x, index, label)


def save_folder(
    folder: Path,
    architecture: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    times: int,
    *,
    notes: Mapping[str, str],
) -> None:
    """Write weights that predict v on the linear schedule as a folder of diffusers', at once or not at all.

    `notes` are texts by name that lie in it, too.
    """
    network: Any = adapters.constructed(architecture, config)
    network.load_state_dict(
        {name: weights.get(name, buffer) for name, buffer in network.state_dict().items()}
    )
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    network.save_pretrained(beside)
    scheduler = library("diffusers", consequence="The folder would have no scheduler.").DDPMScheduler
    scheduler(num_train_timesteps=times, prediction_type="v_prediction", clip_sample=False).save_pretrained(
        beside
    )
    for name, text in notes.items():
        (beside / name).write_text(text)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def _as_it_is(network: nn.Module) -> None:
    """Leave the weights as the constructor drew them."""


@torch.no_grad()
def _from_nothing(network: nn.Module) -> None:
    """Every block begins as the identity and the output as zero (Peebles and Xie, 2023, adaLN-Zero).

    diffusers leaves these weights to chance, since it loads trained ones.
    """
    blocks: Any = network.get_submodule("transformer_blocks")
    ends = [network.get_submodule(name) for name in ("proj_out_1", "proj_out_2")]
    for layer in (*(block.norm1.linear for block in blocks), *ends):
        for parameter in layer.parameters():
            parameter.zero_()


STARTS: Final[Mapping[str, Callable[[nn.Module], None]]] = MappingProxyType(
    {"DiTTransformer2DModel": _from_nothing}
)
"""How a class is prepared for training."""
