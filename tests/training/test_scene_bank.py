import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lexiseg.methods.freeda.bank import BankError, verify
from lexiseg.methods.freeda.offline.encoding import LiteBankEncoder
from lexiseg.training.scene_bank import bank_of_scenes
from tests.methods.contract import tiny_lite

NAMES = ("background", "sky", "grass")


def scenes(folder: Path, count: int) -> None:
    """Photographs with sky above grass, of which every third has none."""
    for kind in ("images", "masks"):
        (folder / "train" / kind).mkdir(parents=True)
    noise = np.random.default_rng(count)
    for index in range(count):
        mask = np.full((40, 48), 255, np.uint8)
        mask[:20] = NAMES.index("sky")
        if index % 3:
            mask[20:] = NAMES.index("grass")
        else:
            mask[30, 40:44] = NAMES.index("grass")  # too small to be seen
        photo = noise.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(photo).save(folder / "train" / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "train" / "masks" / f"{index}.png")
    classes = {"ignore": 255, "classes": {str(n): name for n, name in enumerate(NAMES)}}
    (folder / "classes.json").write_text(json.dumps(classes))


def test_each_name_gets_rows_of_its_regions(tmp_path: Path) -> None:
    scenes(tmp_path / "data" / "a", 7)
    scenes(tmp_path / "data" / "b", 3)
    encoder = LiteBankEncoder(tiny_lite(), "tiny")
    bank = bank_of_scenes(
        tmp_path / "data", tmp_path / "bank", encoder, folders=("a", "b"), a_name=3
    )
    records = list(bank.records())
    assert [r.word for r in records].count("sky") == 3 + 3
    assert [r.word for r in records].count("grass") == 3 + 2
    assert {r.source.split("/")[0] for r in records} == {"a", "b"}
    assert verify(tmp_path / "bank") == []
    row = next(i for i, record in enumerate(records) if record.word == "sky")
    assert torch.equal(bank.keys[row], encoder.word_key("sky").half())
    with pytest.raises(BankError, match="give another name"):
        bank_of_scenes(tmp_path / "data", tmp_path / "bank", encoder, folders=("a",))
