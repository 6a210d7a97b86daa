"""A device without hardware: its numbers lie in the host's memory, and nothing of the host's may meet them there.

Every operation on it is the CPU's own, so a run on it has the CPU's bits. What a real device would refuse, it refuses:
a tensor of the host's in an operation with one of its own, and a NumPy array of what is still on it.
"""

import torch
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "away"
_ACROSS = {"aten::_to_copy", "aten::copy_"}
_library = None


class Module:
    """What torch asks of a kind of device."""

    model = "Away 1"
    count = 2
    taken = 0

    @classmethod
    def is_available(cls):
        return True

    @classmethod
    def get_device_name(cls):
        return cls.model

    @classmethod
    def device_count(cls):
        return cls.count

    @classmethod
    def current_device(cls):
        return 0

    @classmethod
    def set_device(cls, number):
        cls.taken = number

    @staticmethod
    def _is_in_bad_fork():
        return False

    @staticmethod
    def manual_seed_all(seed):
        """It draws no numbers."""


class Away(torch.Tensor):
    """A tensor that is there."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )

    def __init__(self, inner):
        self.inner = inner

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _carried_out(function, args, kwargs or {})


def begin():
    """Make the device known to torch; once per process."""
    global _library
    if _library is None:
        _setup_privateuseone_for_python_backend(NAME, backend_module=Module)
        _library = torch.library.Library("_", "IMPL")
        _library.fallback(
            lambda function, *args, **kwargs: _carried_out(function, args, kwargs), "PrivateUse1"
        )


def _carried_out(function, args, kwargs):
    name, wrappers = function.name(), {}

    def inner(value):
        if isinstance(value, Away):
            wrappers[id(value.inner)] = value
            return value.inner
        if isinstance(value, torch.Tensor) and value.ndim and name not in _ACROSS:
            raise RuntimeError(f"{name}: a host tensor {list(value.shape)} among those of the device")
        return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value

    given = tree_map(inner, (args, kwargs))
    asked = kwargs.get("device")
    home = asked is not None and torch.device(asked).type == "cpu"
    found = function(*given[0], **given[1])
    if name == "aten::copy_" and not isinstance(args[0], Away):
        return args[0]

    def outer(value):
        if home or not isinstance(value, torch.Tensor) or isinstance(value, Away):
            return value
        return wrappers[id(value)] if id(value) in wrappers else Away(value)

    return tree_map(outer, found)
