"""What the page makes of a block on its way to it: the same numbers, read with nothing of the server's."""

import json
import struct

import numpy as np


def unpacked(data):
    """The header of a block, and its values [time ...]."""
    (length,) = struct.unpack("<I", data[:4])
    head = json.loads(data[4 : 4 + length])
    assert (4 + length) % 8 == 0
    values = np.frombuffer(data[4 + length :], "<f2").astype(np.float64)
    values = values.reshape(len(head["times"]), *head["shape"])
    return head, values * np.array(head["scales"]).reshape(-1, *([1] * len(head["shape"])))
