"""Every way by which weights come in, and files that want code run or memory wasted."""

import pickle
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from lexiseg import create_model, registry
from lexiseg.data.captions.shards import _read_index
from lexiseg.encoders.checkpoints import load_clip
from lexiseg.encoders.dinov2_checkpoints import load_dinov2
from lexiseg.encoders.sam_checkpoints import load_sam
from lexiseg.id_maps import read_ids
from lexiseg.methods.freeda.bank import BankError, PrototypeBank, verify
from lexiseg.methods.freeda.retrieval import NumpyPrototypes
from lexiseg.onnx import OnnxSegmenter
from lexiseg.onnx.description import Description
from lexiseg.segmenter import Segmenter
from lexiseg.tools.conversion import convert
from lexiseg.tools.doctor import weights_state
from lexiseg.training.checkpoints import Checkpoint
from lexiseg.training.teachers import DeepLabTeacher
from lexiseg.weights import (
    UnsafeCheckpointError,
    Weights,
    add_metadata,
    read_checkpoint,
    read_metadata,
    read_weights,
)
from tests.conftest import Painter
from tests.trust.conftest import in_one_line, little_memory
from tests.trust.corpus import corpus

MOST_GROWTH = 200  # megabytes
BANK = Path(str(files("lexiseg") / "assets" / "freeda" / "scenes_bank"))


class Parted(Painter):
    """A model that starts from a file of another."""

    parts = ("clip",)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Is never written."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def attempts(
    canary: Path, tmp_path: Path, registered_painter: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Hands every hostile file to a loader, which has to raise."""
    monkeypatch.setitem(registry._BUILDERS, "parted", Parted)

    def attempt(
        load: Callable[[Path], Any],
        error: type[Exception] = UnsafeCheckpointError,
        suffix: str = ".pt",
    ) -> None:
        files = corpus(canary)
        with little_memory(MOST_GROWTH):
            for number, (name, content) in enumerate(files.items()):
                path = tmp_path / f"{number}{suffix}"
                path.write_bytes(content)
                with pytest.raises(error):
                    load(path)
                assert not canary.exists(), name

    return attempt


def test_there_are_enough_kinds_and_the_trap_works(tmp_path: Path) -> None:
    assert len(corpus(tmp_path / "canary")) == 30
    pickle.loads(corpus(tmp_path / "canary")["pickle of Command"])
    assert (tmp_path / "canary").exists()


LOADERS: dict[str, Callable[[Path], Any]] = {
    "read_checkpoint": read_checkpoint,
    "read_weights": read_weights,
    "a record whose asset it is": lambda path: read_weights(_record(path)),
    "create_model": lambda path: create_model("painter", weights=path),
    "create_model, as text": lambda path: create_model("painter", weights=str(path)),
    "create_model, a part": lambda path: create_model("parted", weights={"clip": path}),
    "convert": lambda path: convert(path, path.with_suffix(".safetensors"), model="painter"),
    "convert, model unknown": lambda path: convert(path, path.with_suffix(".safetensors")),
    "convert, a part": lambda path: convert(
        {"clip": path}, path.with_suffix(".safetensors"), model="parted"
    ),
    "CLIP": load_clip,
    "DINOv2": load_dinov2,
    "SAM": load_sam,
    "export-weights": lambda path: add_metadata(path, path.with_suffix(".safetensors"), {}),
}


def _record(path: Path) -> Weights:
    return Weights(None, None, "", "", "", asset=str(path))


@pytest.mark.parametrize("name", LOADERS)
def test_nothing_runs_and_the_error_has_its_type(
    name: str, attempts: Callable[..., None], tmp_path: Path
) -> None:
    attempts(LOADERS[name])
    assert not list(tmp_path.glob("*.safetensors")), "half of a conversion was written"


def test_from_pretrained(attempts: Callable[..., None]) -> None:
    attempts(Segmenter.from_pretrained, ValueError, suffix=".safetensors")


def test_a_file_of_the_hub(
    canary: Path, registered_painter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, content in enumerate(corpus(canary).values()):
        (tmp_path / f"{number}").write_bytes(content)
        monkeypatch.setattr("lexiseg.hub.download", lambda _, n=number: tmp_path / f"{n}")
        with pytest.raises(ValueError, match="damaged|declares|does not say which model"):
            Segmenter.from_pretrained("hf:someone/painter")


def test_a_file_that_training_goes_on_from(attempts: Callable[..., None], tmp_path: Path) -> None:
    def resume(path: Path) -> None:
        shutil.copy(path, tmp_path / "state.pt")
        Checkpoint(tmp_path, step=1, score=None).read()

    attempts(resume, ValueError)


def test_doctor_looks_without_running_anything(canary: Path, tmp_path: Path) -> None:
    states = set()
    for content in corpus(canary).values():
        (tmp_path / "w").write_bytes(content)
        states.add(weights_state(_record(tmp_path / "w"))["state"])
    assert states == {"bundled", "damaged"}


def test_metadata_are_read_without_running_anything(canary: Path, tmp_path: Path) -> None:
    for content in corpus(canary).values():
        (tmp_path / "w").write_bytes(content)
        try:
            assert read_metadata(tmp_path / "w") == {}
        except UnsafeCheckpointError:
            continue


@pytest.mark.parametrize("part", ["bank.json", "vectors", "records"])
def test_a_bank(part: str, attempts: Callable[..., None], tmp_path: Path) -> None:
    shutil.copytree(BANK, tmp_path / "bank")
    (victim,) = (tmp_path / "bank").glob(f"{part}*")

    def open_bank(path: Path) -> None:
        shutil.copy(path, victim)
        assert verify(tmp_path / "bank")
        list(PrototypeBank.open(tmp_path / "bank").records())

    attempts(open_bank, BankError)


def test_the_authors_prototypes(attempts: Callable[..., None]) -> None:
    attempts(
        lambda path: NumpyPrototypes(path.parent, [path.name])[torch.tensor([0])],
        BankError,
        suffix=".npy",
    )


def test_an_exported_model(attempts: Callable[..., None], tmp_path: Path) -> None:
    preparation = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    whole = Description("x", "softmax", True, 0.5, ("{}",), "wordpiece", 8, preparation).as_json()

    def graph(path: Path) -> None:
        (tmp_path / "model.json").write_text(whole)
        shutil.copy(path, tmp_path / "image.onnx")
        OnnxSegmenter(tmp_path)

    def facts(path: Path) -> None:
        shutil.copy(path, tmp_path / "model.json")
        OnnxSegmenter(tmp_path)

    attempts(graph, ValueError)
    attempts(facts, ValueError)
    for wrong in ("[]", "{}", '{"format": 1}', '{"format": 1, "templates": 3, "int8": []}'):
        (tmp_path / "model.json").write_text(wrong)
        with pytest.raises(ValueError, match=r"model\.json is (damaged|of another format)"):
            OnnxSegmenter(tmp_path)


def test_a_teacher_of_arrays(attempts: Callable[..., None]) -> None:
    attempts(DeepLabTeacher.read, ValueError, suffix=".npz")


def test_caches_that_were_tampered_with_are_made_again(canary: Path, tmp_path: Path) -> None:
    for content in corpus(canary).values():
        (tmp_path / "ids.npz").write_bytes(content)
        assert read_ids(tmp_path / "ids.npz", (2, 2)) is None
        status = (tmp_path / "ids.npz").stat()
        assert _read_index(tmp_path / "ids.npz", tmp_path / "x.tar", status) is None


@pytest.mark.parametrize(
    "words",
    [
        "segment flag.png --labels red --model painter=FILE",
        "segment flag.png --labels red --model parted=clip=FILE",
        "segment flag.png --labels red --model FILE",
        "segment flag.png --labels red --model EXPORT",
        "compare flag.png --labels red --models painter=FILE",
        "refer flag.png red --model painter=FILE",
        "evaluate painter=FILE flags",
        "convert FILE out.safetensors",
        "convert clip=FILE out.safetensors --model parted",
        "export painter=FILE --onnx out",
        "bench painter=FILE",
        "serve --model painter=FILE",
        "prototypes info EXPORT",
        "push-to-hub FILE me/mine",
    ],
)
def test_the_command_line_says_it_in_a_line(
    words: str,
    canary: Path,
    run: Callable[..., Result],
    flag_file: Path,
    flags: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry._BUILDERS, "parted", Parted)
    before = {path.name for path in tmp_path.iterdir()} | {"lexiseg_out", "lexiseg_scores"}
    chosen = corpus(canary)
    for name in (
        "pickle of Command",
        "torch file with Evaluation",
        "TorchScript with code",
        "header bomb",
        "truncated archive",
        "huge tensor",
    ):
        (tmp_path / "x.safetensors").write_bytes(chosen[name])
        (tmp_path / "export").mkdir(exist_ok=True)
        for file in ("model.json", "bank.json"):
            (tmp_path / "export" / file).write_bytes(chosen[name])
        asked = words.replace("FILE", "x.safetensors").replace("EXPORT", "export")
        in_one_line(run(*asked.split()))
        assert not canary.exists()
    made = {path.name for path in tmp_path.iterdir()} - before - {"x.safetensors", "export"}
    assert made <= {"out"}
    assert not list(tmp_path.rglob("out/*"))
