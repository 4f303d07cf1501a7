import json
from pathlib import Path
from typing import Any

import pytest

from lexiseg.data.captions.sentences import read_sentences

TEXTS = ["A dog.", "Two cats"]


@pytest.mark.parametrize(
    "content",
    [
        ["A dog.", " Two\n cats ", "  "],
        {"annotations": [{"caption": "A dog."}, {"caption": "Two  cats"}], "images": []},
        {"images": [{"sentences": [{"raw": "A dog."}]}, {"sentences": [{"raw": "Two cats"}]}]},
        {"a": {"captions": ["A dog."], "split": "val"}, "b": {"captions": ["Two cats"]}},
    ],
)
def test_captions_out_of_json(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(content))
    assert read_sentences(path) == TEXTS


def test_captions_out_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "captions.txt"
    path.write_text("\ufeffA dog.\n\n  Two\tcats \r\n", encoding="utf-8")
    assert read_sentences(path) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[3]", "a caption that is no text"),
        ("a.json", '{"images": [3]}', "cannot be understood"),
        ("a.json", "{", "cannot be read"),
        ("a.txt", " \n", "holds no captions"),
        ("a.json", "[]", "holds no captions"),
    ],
)
def test_other_files_are_told(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_sentences(tmp_path / name)
    with pytest.raises(ValueError, match="cannot be read|is missing"):
        read_sentences(tmp_path / f"no-{name}")
