"""A zstd frame of nothing but repeated zeros, written by hand: making it takes no more memory than it has."""

BLOCK = 128 << 10


def frame(size):
    """A frame that says that it unpacks to `size` bytes, and does: blocks of one byte repeated."""
    header = b"\x28\xb5\x2f\xfd" + bytes([0b11_0_00000]) + bytes([0x38]) + size.to_bytes(8, "little")
    count = size // BLOCK
    blocks = [
        ((BLOCK << 3) | (1 << 1) | (n == count - 1)).to_bytes(3, "little") + b"\0" for n in range(count)
    ]
    return header + b"".join(blocks)
