"""Names and words of any script, in a place that knows only ASCII."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.trust.conftest import noise

ROOT = Path(__file__).parents[2]
WORDS = "猫, собака|пёс, كلب, naïve café, 🦊"
NAMES = ("猫", "фото", "صورة", "e\u0301té", "🦊")
PLACES = {
    "C, a terminal of ASCII": {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii"},
    "POSIX, no UTF-8 mode": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture
def place(tmp_path: Path, flags: Path) -> Path:
    """Photographs and a data set whose names are in no single script."""
    photos = tmp_path / "图片"
    photos.mkdir()
    for seed, name in enumerate(NAMES):
        Image.fromarray(noise(seed, 20, 30)).save(photos / f"{name}.png")
    shutil.copy(flags / "val" / "images" / "flag.png", flags / "val" / "images" / "флаг.png")
    shutil.copy(flags / "val" / "masks" / "flag.png", flags / "val" / "masks" / "флаг.png")
    classes = {"classes": {"0": "красный", "1": "绿", "2": "blue"}}
    (flags / "classes.json").write_text(json.dumps(classes, ensure_ascii=False), encoding="utf-8")
    torch.save({"gain": torch.tensor(10.0)}, tmp_path / "веса.pth")
    return tmp_path


@pytest.mark.parametrize("name", PLACES)
def test_every_verb(name: str, place: Path) -> None:
    model = ["--model", "painter=веса.pth"]
    asked = [
        [
            "segment",
            "图片/猫.png",
            "--labels",
            WORDS,
            *model,
            "--out",
            "一",
            "--format",
            "maps,coco",
        ],
        ["segment", "图片/фото.png", "--labels", WORDS, *model, "--json", "--explain", "почему"],
        ["segment", "图片", "--labels", WORDS, *model, "--out", "много", "--json"],
        ["refer", "图片/🦊.png", "красная лиса", *model, "--background", "стена", "--out", "一"],
        ["compare", "图片/猫.png", "--labels", WORDS, "--models", "painter=веса.pth", "--json"],
        ["evaluate", "painter=веса.pth", "flags", "--per-class", "--out", "оценки"],
        ["evaluate", "painter=веса.pth", "flags", "--per-class", "--json", "--out", "оценки2"],
        ["convert", "веса.pth", "画.safetensors", "--model", "painter"],
        ["segment", "нет.png", "--labels", WORDS, *model],
        ["segment", "图片/猫.png", "--labels", "猫,猫", *model],
    ]
    kept = ("PATH", "HOME", "OMP_NUM_THREADS", "SYSTEMROOT")
    environment = {key: os.environ[key] for key in kept if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "tests.trust.in_c_locale"],
        input="\n".join(map(json.dumps, asked)).encode(),
        cwd=place,
        env={**environment, "PYTHONPATH": str(ROOT), **PLACES[name]},
        capture_output=True,
        check=False,
    )
    told = done.stderr.decode("utf-8", "backslashreplace")
    assert "Traceback" not in told
    codes = [line.split()[1] for line in told.splitlines() if line.startswith("EXIT")]
    if "no UTF-8" not in name:
        assert codes == ["0"] * 8 + ["1", "2"], told
        check_files(place)
        assert "собака" in done.stdout.decode("utf-8")


def check_files(place: Path) -> None:
    """All is UTF-8, whatever the terminal may show."""
    record = json.loads((place / "一" / "猫_coco.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in record["categories"]][:3] == ["猫", "собака", "كلب"]
    assert {path.stem for path in (place / "много").glob("*.json")} == set(NAMES)
    assert (place / "画.safetensors").is_file()
    assert len(list((place / "一").glob("猫_map_*.png"))) == 5
    (file,) = (place / "оценки" / "flags-val").glob("*.json")
    assert "красный" in json.loads(file.read_text(encoding="utf-8"))["class_IoU"]
