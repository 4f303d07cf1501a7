"""What several of these tests need: the bundled models, looking at small pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app
from lexiseg.registry import registered, weights_of
from lexiseg.segmenter import Segmenter
from tests.conftest import write_flags

_RESET_PEAK = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")

BUNDLED = [
    name for name in registered() if any(record.asset for record in weights_of(name).values())
]


@lru_cache(maxsize=1)
def small(name: str) -> Segmenter:
    """A bundled model that makes 64 pixels of a picture's longer side, so that it is quick."""
    segmenter = Segmenter.from_pretrained(name, device="cpu")
    preprocess = replace(segmenter.protocol.preprocess, shorter=None, longest=64)
    segmenter.protocol = replace(segmenter.protocol, preprocess=preprocess)
    segmenter.templates = ("a photo of a {}.",)
    return segmenter


def noise(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture without meaning."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def resident(name: str = "VmRSS") -> float:
    """Megabytes of this process that are in memory; "VmHWM" for the most that ever were."""
    (line,) = (each for each in _STATUS.read_text().splitlines() if each.startswith(name))
    return int(line.split()[1]) / 1024


@contextmanager
def little_memory(megabytes: float) -> Iterator[None]:
    """What is done in here takes at most so much more memory at any moment."""
    if not _RESET_PEAK.is_file():  # not Linux: the other checks still hold
        yield
        return
    _RESET_PEAK.write_text("5")
    before = resident()
    yield
    assert resident("VmHWM") - before < megabytes


def in_one_line(result: Result, exit_codes: tuple[int, ...] = (1, 2)) -> str:
    """A complaint of the command line: one line, no traceback, and the exit code of a failure."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in exit_codes, result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "Traceback" not in result.output
    return str(result.stderr.strip())


@pytest.fixture
def run(
    registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Runs the command line in an empty folder, where the tiny model is known."""
    monkeypatch.chdir(tmp_path)

    def invoke(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})

    return invoke


@pytest.fixture
def flags(tmp_path: Path, flag: np.ndarray) -> Path:
    """A data set of one flag, described rightly."""
    return write_flags(tmp_path / "flags", flag, [0, 1, 2])
