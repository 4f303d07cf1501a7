"""NPZ: the arrays as they are, for numpy; the same result is always the same bytes."""

import io
import zipfile

import numpy as np

from lexiseg.outputs.base import Segmented

_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold


def npz(result: Segmented) -> bytes:
    """``labels``, ``label_map``, ``none``, ``confidence``, and ``scores`` where they were kept."""
    arrays = {
        "labels": np.array(result.labels, dtype=np.str_),
        "label_map": result.label_map,
        "none": np.array(result.none),
        "confidence": result.confidence,
    }
    if result.scores is not None:
        arrays["scores"] = result.scores
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=_NO_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()
