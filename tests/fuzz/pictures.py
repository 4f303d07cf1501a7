"""Fuzzing of the reader of pictures, with the branches of the library as its guide.

``python tests/fuzz/pictures.py -max_total_time=60``; needs ``pip install atheris``. Ends with an
error where a picture brings about anything but pixels or an ``ImageError`` of one line.
"""

import io
import sys
import warnings

import atheris
import numpy as np
from damage import damaged
from PIL import Image

with atheris.instrument_imports(include=["lexiseg.pictures.reading"]):
    from lexiseg.pictures.reading import ImageError, read_label_map, read_picture

SEEDS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
MOST_PIXELS = 100_000


def test_one_input(data: bytes) -> None:
    """Reads a picture and, from the same bytes, a mask."""
    if len(data) > 1 and data[0] < 200:
        data = damaged(data, GOOD)
    for read in (lambda: read_picture(data, max_pixels=MOST_PIXELS), lambda: read_label_map(data)):
        message, pixels = "", None
        try:
            pixels = read()
        except ImageError as error:
            message = str(error)
        assert message.isprintable()
        assert message or (pixels.size and pixels.dtype in (np.uint8, np.uint16))


def seeds() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    made = []
    for kind in SEEDS:
        for mode in ("RGB", "L", "P"):
            buffer = io.BytesIO()
            try:
                Image.fromarray(pixels).convert(mode).save(buffer, kind)
            except OSError:  # JPEG has no palettes
                continue
            made.append(buffer.getvalue())
    return made


GOOD = seeds()

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
