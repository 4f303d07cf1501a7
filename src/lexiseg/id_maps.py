"""Id maps kept on disk: superpixels, what a teacher sees."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from lexiseg.atomic import written_whole


def read_ids(path: Path, size: tuple[int, int]) -> UInt16[np.ndarray, "H W"] | None:
    """The ids kept in a file; None where it is not there, damaged, or of another size."""
    try:
        # A zip's checksum finds every damage; a PNG's decoder lets some through.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            ids = file["ids"]
    except Exception:  # whatever is wrong with the file, it is computed again
        return None
    if ids.shape != size or ids.dtype not in (np.uint8, np.uint16):
        return None
    return ids.astype(np.uint16)


def write_ids(path: Path, ids: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]) -> None:
    """Put a file into its place whole, whoever else writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary, temporary.open("xb") as file:
        np.savez_compressed(file, ids=ids.astype(np.uint8) if ids.max() < 256 else ids)
