"""Where a network computes: the CPU, or an accelerator that torch knows by the name of its kind.

Only what the network itself does happens there: its call, edits and reductions of its layers, gradients through it.
Noise, the sampler's arithmetic, measures and all that is stored stay on the host, in the very operations of a run
without a device. So what differs between two devices is the network's last bits, and nothing else.
"""

import os
from typing import TYPE_CHECKING, Any, Final

from flowprofile.errors import DefinitionError, ModelError, nearest
from flowprofile.numbering import number

if TYPE_CHECKING:
    import torch

CPU: Final = "cpu"
_KNOWN: Final = (CPU, "cuda", "xpu", "mps")


def named(word: str) -> str:
    """What a definition's word for a device means: a kind of device and the model it is, as ``cuda:NVIDIA H200``.

    Parameters
    ----------
    word
        ``cpu``; a kind, of which there is one here; or kind and model, for planning where there is none.

    Raises
    ------
    DefinitionError
        If the word is a kind, and no such device is here.

    >>> named("cpu"), named("cuda:NVIDIA H200")
    ('cpu', 'cuda:NVIDIA H200')
    """
    kind, _, model = word.partition(":")
    if kind == CPU or model:
        return word
    return f"{kind}:{_model(kind)}"


def here(device: str) -> bool:
    """Whether this machine has the device, by kind and model.

    >>> here("cpu"), here("cuda:a model that nobody built")
    (True, False)
    """
    kind, _, model = device.partition(":")
    if kind == CPU:
        return True
    try:
        return _model(kind) == model
    except DefinitionError:
        return False


def required(device: str) -> None:
    """Refuse to compute on a device that is not here.

    Raises
    ------
    ModelError
        If there is none, or it is another model.
    """
    if here(device):
        return
    kind, _, model = device.partition(":")
    try:
        evidence = f"{kind}: {_model(kind)}"
    except DefinitionError as error:
        evidence = error.fact
    raise ModelError(
        f"The run is planned for a {model!r}, and none is here.",
        consequence="Another device has other last bits, which would be mixed with those of the rest of the run.",
        remedy="give the work to machines that have one (--cluster, or --part on them), or begin a run of its own on what is"
        ' here: numerics.device = "cpu"',
        evidence=evidence,
    )


def use(device: str) -> "torch.device":
    """Make a device ready for this process, and say how torch calls it.

    A process takes one of the devices it sees, by its number. Products are computed in float32 throughout, by
    kernels that give the same twice.

    Raises
    ------
    ModelError
        As for `required`.
    """
    # What cuBLAS needs for being deterministic, and reads when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    required(device)
    kind, _, _ = device.partition(":")
    if kind == CPU:
        return torch.device(CPU)
    module = torch.get_device_module(kind)
    module.set_device(number() % module.device_count())
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    return torch.device(kind)


def _model(kind: str) -> str:
    """What the device of a kind is called, or a refusal where none is here."""
    import torch

    try:
        module: Any = torch.get_device_module(kind)
    except (RuntimeError, ValueError) as error:
        raise DefinitionError(
            f"There is no kind of device {kind!r}.",
            consequence="The network would have nowhere to compute.",
            remedy=f"{nearest(kind, _KNOWN)}, or a kind that torch.get_device_module knows",
            evidence=str(error),
        ) from error
    if not module.is_available():
        raise DefinitionError(
            f"No device {kind!r} is here.",
            consequence="The network would have nowhere to compute, and what computes it is a part of the run.",
            remedy=f'name the device of those who compute, for instance device = "{kind}:NVIDIA H200", to plan for it'
            ' from here; or leave device = "cpu"',
            evidence=f"torch {torch.__version__}",
        )
    return str(module.get_device_name()) if hasattr(module, "get_device_name") else kind
