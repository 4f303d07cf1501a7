"""A small data set of one's own, made on the spot."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.data.tars import picture, write_tar


@pytest.fixture
def own_data(tmp_path):
    """Three pictures, classes 2 (left half) and 7 (right half), a band of 255 on top."""
    root = tmp_path / "own"
    for split, count in (("train", 3), ("val", 1)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(count):
            size = (40 + 2 * index, 60)
            mask = np.full(size, 2, np.uint8)
            mask[:, 30:] = 7
            mask[:5] = 255
            pixels = np.zeros((*size, 3), np.uint8)
            pixels[mask == 2] = (200, 40, 40)
            pixels[mask == 7] = (40, 40, 200)
            Image.fromarray(pixels).save(root / split / "images" / f"p{index}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"p{index}.png")
    description = {"classes": {"2": "red", "7": "blue"}, "ignore": 255}
    (root / "classes.json").write_text(json.dumps(description))
    return root


@pytest.fixture
def tar(tmp_path):
    """Three samples: a txt, a json with two captions, and both kinds of text."""
    folder = tmp_path / "tars"
    folder.mkdir()
    return write_tar(
        folder / "cc-000.tar",
        [
            ("a/000.png", picture("red")),
            ("a/000.txt", b" a red wall \n"),
            ("001.json", json.dumps({"caption": ["green", "a lawn"]}).encode()),
            ("001.PNG", picture((0, 200, 0))),
            ("002.txt", "blaues Tuch – 蓝".encode()),
            ("002.json", b'{"caption": "not this one", "width": 12}'),
            ("002.webp", picture("blue", "WEBP", (30, 20))),
        ],
    )
