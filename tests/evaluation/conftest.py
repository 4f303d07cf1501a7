"""Flags of three colours, some of them described wrongly."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


@pytest.fixture
def flag_folder(tmp_path: Path) -> Path:
    """Seven flags in a folder of one's own; a part of each mask is wrong."""
    root = tmp_path / "flags"
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
    for index in range(7):
        order = np.roll(np.arange(3), index)
        true = np.repeat(order, 10)[None].repeat(16 + 4 * index, axis=0)
        pixels = np.array(COLOURS, np.uint8)[true]
        Image.fromarray(pixels).save(root / "val" / "images" / f"flag{index}.png")
        mask = true.astype(np.uint8)
        mask[: index + 1] = (mask[: index + 1] + 1) % 3
        mask[-2:] = 255
        Image.fromarray(mask).save(root / "val" / "masks" / f"flag{index}.png")
    classes = {"classes": {"0": "red", "1": "green", "2": "blue"}}
    (root / "classes.json").write_text(json.dumps(classes))
    return root


@pytest.fixture
def referring_folder(flag_folder: Path) -> Path:
    """The same flags, each with two expressions for its first stripe."""
    names = ("red", "green", "blue")
    rows = []
    for index in range(4):
        colour = names[np.roll(np.arange(3), index)[0]]
        height = 16 + 4 * index
        rows.append(
            {
                "image": f"val/images/flag{index}.png",
                "expressions": [colour, colour],
                "polygon": [0, 0, 10, 0, 10, height / 2, 0, height / 2],
                "split": "val",
            }
        )
    root = flag_folder
    (root / "classes.json").unlink()
    (root / "refs.json").write_text(json.dumps(rows))
    return root
