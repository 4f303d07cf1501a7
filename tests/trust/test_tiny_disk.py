"""Writers on a file system of a few kilobytes, which the system lets the tests mount or not."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.trust.test_full_disk import WRITERS, visible

ROOT = Path(__file__).parents[2]
ON_TMPFS = """
import sys
from pathlib import Path
from tests.trust import test_full_disk as writers

name, out, whole = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
try:
    writers.WRITERS[name](out)
except OSError as error:
    print(type(error).__name__, error)
else:
    sys.exit("there was room")
assert not writers.leftovers(out), writers.leftovers(out)
for file, content in writers.visible(out).items():
    assert content == writers.visible(whole).get(file), file
"""


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts file systems of so many kilobytes."""
    mounted = []

    def mount(kilobytes: int) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no right to mount a file system")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in WRITERS if each != "converted weights"])
def test_a_writer_on_a_tiny_file_system(
    name: str, tiny_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    WRITERS[name](whole)
    taken = sum(len(content) for content in visible(whole).values())
    out = tiny_disk(max(4, 4 * (taken // 8192)))
    done = subprocess.run(
        [sys.executable, "-c", ON_TMPFS, name, str(out), str(whole)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No space left" in done.stdout or "0.0 MB are left there" in done.stdout


LARGE = """
import sys, tempfile
import numpy as np
from PIL import Image
from lexiseg import Segmenter
from lexiseg.jobs.large import segment_large
from tests.conftest import Painter

tempfile.tempdir = sys.argv[1]
Image.fromarray(np.zeros((1500, 1500, 3), dtype=np.uint8)).save(sys.argv[2])
try:
    segment_large(Segmenter(Painter(), device="cpu"), sys.argv[2], ["red", "green"], tile=256)
except OSError as error:
    print(error)
else:
    sys.exit("there was room")
"""


@pytest.mark.slow
def test_a_large_picture_where_its_tiles_have_no_room(
    tiny_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    """The system would end the process by a signal where a mapped page cannot be had."""
    command = [sys.executable, "-c", LARGE, str(tiny_disk(2000)), str(tmp_path / "large.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "No space left" in done.stdout
