import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from lexiseg.result import Segmentation


# pycocotools itself: its masks do not know of numpy 2's copy
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", ["coco", "polygons"])
def test_pycocotools_reads_the_label_map_back(
    kind: str, result: Segmentation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert result.save(tmp_path / "a.json", formats=kind) == {kind: tmp_path / "a.json"}
    coco = COCO(str(tmp_path / "a.json"))
    assert [coco.cats[n]["name"] for n in (1, 2, 3)] == list(result.labels)
    assert coco.imgs[1]["file_name"] == "holiday/street.jpg"
    label_map = np.full((17, 23), 255, dtype=np.uint8)
    for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[1])):
        mask = coco.annToMask(annotation).astype(bool)
        assert annotation["area"] == mask.sum()
        left, top, width, height = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        assert (columns.min(), rows.min()) == (left, top)
        assert (columns.max() + 1, rows.max() + 1) == (left + width, top + height)
        label_map[mask] = annotation["category_id"] - 1
    np.testing.assert_array_equal(label_map, result.label_map)
    assert len(coco.anns) == (2 if kind == "coco" else 4)
    capsys.readouterr()  # pycocotools prints


def test_the_table_is_in_it_too(result: Segmentation, tmp_path: Path) -> None:
    result.save(tmp_path / "a.json")
    record = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert record["labels"] == result.table()
    assert (record["image"], record["none"]) == ("holiday/street.jpg", 255)
    assert [each["score"] for each in record["annotations"]] == [
        row["confidence"] for row in result.table()[:2]
    ]
