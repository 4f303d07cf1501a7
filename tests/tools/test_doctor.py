import hashlib
import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

import lexiseg.methods
from lexiseg import registry
from lexiseg.tools import doctor
from lexiseg.weights import Weights, cached_path
from tests.conftest import Painter

REMOTE = Weights(
    url="https://example.org/files/a.pth",
    sha256=hashlib.sha256(b"weights").hexdigest(),
    licence="MIT",
    origin="https://example.org",
    paper="none",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network to fill it from."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a doctor downloads nothing")

    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return tmp_path


def put(weights: Weights, content: bytes) -> Path:
    assert weights.url is not None
    path = cached_path(weights.url, weights.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_weights_that_are_not_here(cache: Path) -> None:
    row = doctor.weights_state(REMOTE)
    assert (row["state"], row["origin"]) == ("absent", REMOTE.url)
    assert row["path"].startswith(str(cache))
    assert f"put {REMOTE.url} at {row['path']}" in row["do"]


def test_weights_by_hand(cache: Path) -> None:
    row = doctor.weights_state(replace(REMOTE, url=None))
    assert row["state"] == "by hand"
    assert "take the file from https://example.org" in row["do"]


@pytest.mark.parametrize(
    ("content", "state"), [(b"weights", "cached"), (b"weightz", "damaged"), (b"", "damaged")]
)
def test_weights_in_the_cache(cache: Path, content: bytes, state: str) -> None:
    path = put(REMOTE, content)
    row = doctor.weights_state(REMOTE)
    assert (row["state"], row["path"]) == (state, str(path))
    assert (row["do"] is None) == (state == "cached")


def test_without_a_published_checksum(cache: Path) -> None:
    unsigned = replace(REMOTE, sha256=None)
    put(unsigned, b"whatever")
    assert doctor.weights_state(unsigned)["state"] == "cached"


def test_bundled_weights(tmp_path: Path) -> None:
    assert doctor.weights_state(replace(REMOTE, asset="lite/encoder.safetensors"))["state"] == (
        "bundled"
    )
    lost = replace(REMOTE, asset=str(tmp_path / "lost.safetensors"))
    assert doctor.weights_state(lost)["state"] == "damaged"


def test_every_model_has_a_state(cache: Path) -> None:
    report = doctor.diagnose()
    json.dumps(report)
    rows = {row["model"]: row for row in report["models"]}
    assert {name.partition(".")[0] for name in rows} == set(registry.registered())
    assert rows["catseg_lite.scenes"]["state"] == "bundled"
    assert rows["catseg_vitb16.coco_stuff"]["state"] == "absent"
    assert rows["cris_r50.refcoco"]["state"] == "by hand"
    assert set(rows["escnet_vitb16"]["origin"]) == {"clip", "sam"}
    assert "--model escnet_vitb16=clip=FILE,sam=FILE" in rows["escnet_vitb16"]["do"]
    assert all(row["do"] for row in rows.values() if row["state"] not in ("bundled", "cached"))
    assert not any(cache.iterdir())


def test_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexiseg.methods, "WEIGHTS", {})
    monkeypatch.setattr(registry, "_BUILDERS", {"painter": Painter})
    lines = [
        "numpy>=1.26",
        'nothing-here>=1; extra == "far"',
        "pillow>=2; extra == 'far'",
        'lexiseg[far]; extra == "dev"',
        'ruff; extra == "dev"',
        'safetensors>=0.5; extra == "near"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    report = doctor.diagnose()
    assert report["packages"] == {"numpy": metadata.version("numpy")}
    far, near = report["extras"]
    assert far["missing"] == ["nothing-here"]
    assert far["install"] == 'pip install "lexiseg[far]"'
    assert (near["extra"], near["missing"], near["install"]) == ("near", [], None)
    (row,) = report["models"]
    assert "--model painter=FILE" in row["do"]
