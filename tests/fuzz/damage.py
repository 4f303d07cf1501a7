"""Good files, broken as an engine's bytes say."""

from collections.abc import Sequence


def damaged(data: bytes, files: Sequence[bytes]) -> bytes:
    """One of the files, in which the bytes say what to change and where to cut."""
    good = bytearray(files[data[0] % len(files)])
    for place, value in zip(data[1::2], data[2::2], strict=False):
        good[place * len(good) // 256] = value
    return bytes(good[: len(good) - data[0] // len(files)])
