import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lexiseg.methods.base import Texts
from lexiseg.tools.bench import Compiled, Eager, bench
from lexiseg.tools.bench.cases import made_up_images, made_up_prompts
from lexiseg.tools.bench.subjects import missing_compiler
from tests.conftest import Painter

# torch's own, of its parts that the compiler imports
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning:torch")

needs_compiler = pytest.mark.skipif(missing_compiler() is not None, reason="no C++ compiler here")
ROOT = Path(__file__).parents[3]
ONE = {"sizes": (32,), "labels": (3,), "repeats": 1, "matrix_side": 64}


class Uncompilable(Compiled):
    def run(self, images: torch.Tensor, texts: Texts) -> torch.Tensor:
        raise AssertionError("\n guard failed\nand more")


def compiled_and_plain(subject: Compiled) -> tuple[torch.Tensor, torch.Tensor]:
    texts = subject.encode(made_up_prompts(subject, 3))
    images = made_up_images(2, 32)
    subject.forget()
    return subject.run(images, texts), subject.plain.run(images, texts)


@needs_compiler
def test_compiled_is_eager() -> None:
    model = Painter()
    subject = Compiled("painter", model)
    found, expected = compiled_and_plain(subject)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert subject.graphs() == 1
    assert subject.plain.model is model
    assert model._compiled_call_impl is None  # what eager runs stays as it was


# In a process of its own: there no shapes are checked, which the compiler cannot see through.
COMPILED_AND_PLAIN = """
import sys, torch
from lexiseg.tools.bench import Compiled
from lexiseg.tools.bench.cases import made_up_images, made_up_prompts
from tests.methods import contract

subject = Compiled("tiny", contract.make(sys.argv[1]).eval())
texts = subject.encode(made_up_prompts(subject, 3))
images = made_up_images(2, 64)
found = subject.run(images, texts)
torch.testing.assert_close(found, subject.plain.run(images, texts), rtol=1e-3, atol=1e-4)
print(subject.graphs(), "graphs")
"""


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["maskclip_vitb16", "catseg_vitb16"])
def test_methods_compile_whole(name: str) -> None:
    words = [sys.executable, "-c", COMPILED_AND_PLAIN, name]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("1 graphs\n")


@needs_compiler
def test_the_row_of_a_compiled_model() -> None:
    model = Painter()
    eager, compiled = bench([Eager("p", model), Compiled("p", model)], **ONE)["rows"]
    assert (eager["engine"], compiled["engine"]) == ("eager", "compiled")
    assert compiled["compile_seconds"] > 0
    assert compiled["graphs"] == 1
    assert compiled["gflop"] == eager["gflop"]
    assert compiled["runs"] == 1
    assert eager["compile_seconds"] is eager["graphs"] is None


def test_what_cannot_be_compiled_says_so_and_the_others_go_on() -> None:
    rows = bench([Uncompilable("p", Painter()), Eager("p", Painter())], **ONE)["rows"]
    assert rows[0]["note"] == "failed: AssertionError: guard failed"
    assert rows[0]["seconds"] is rows[0]["utilisation"] is None
    assert rows[1]["seconds"] > 0


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CXX", "strange++")
    found = missing_compiler()
    assert found is not None
    assert "'strange++' is not here; install g++ or clang" in found
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert missing_compiler() is None
