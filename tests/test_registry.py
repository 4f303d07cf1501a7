import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lexiseg import methods, registry
from lexiseg.registry import create_model, list_models, pretrained_name, register_model
from lexiseg.segmenter import Segmenter
from lexiseg.weights import save_weights


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models: one with its weights bundled, one with two to be downloaded, one with none."""
    monkeypatch.setattr(registry, "_BUILDERS", {})
    table = {
        "small.photos": SimpleNamespace(asset="small.safetensors"),
        "large.coco": SimpleNamespace(asset=None),
        "large.ade": SimpleNamespace(asset=None),
    }
    monkeypatch.setattr(methods, "WEIGHTS", table)
    monkeypatch.setattr("lexiseg.weights.read_weights", lambda source: source)
    monkeypatch.setattr("lexiseg.weights.load_state", load)
    for name in ("small", "large", "bare"):

        def build() -> SimpleNamespace:
            return SimpleNamespace(state="random", from_published=dict)

        build.__name__ = name
        register_model(build)


def load(model: Any, state: Any, rename: Any, *, take: bool) -> None:
    assert rename is dict
    model.state = state


@pytest.mark.usefixtures("models")
def test_names() -> None:
    assert list_models() == ["bare", "large", "large.ade", "large.coco", "small", "small.photos"]
    assert list_models(pretrained=True) == ["large.ade", "large.coco", "small.photos"]


@pytest.mark.usefixtures("models")
def test_which_weights_a_model_gets() -> None:
    table = methods.WEIGHTS
    assert create_model("large.coco").state is table["large.coco"]
    assert create_model("small").state is table["small.photos"]
    assert create_model("large").state == "random"
    assert create_model("large", weights="mine.pt").state == "mine.pt"
    assert create_model("small", weights={}).state == {}


@pytest.mark.usefixtures("models")
def test_what_pretrained_means() -> None:
    assert pretrained_name("small") == "small.photos"
    assert pretrained_name("large.ade") == "large.ade"
    with pytest.raises(ValueError, match="several sets of weights: large.coco, large.ade"):
        pretrained_name("large")
    with pytest.raises(ValueError, match="model 'bare' has no weights to load"):
        pretrained_name("bare")


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smal", "unknown model 'smal'; did you mean 'small'"),
        ("smal.photos", "unknown model 'smal'; did you mean 'small'"),
        ("large.cocoo", "unknown model 'large.cocoo'; did you mean 'large.coco'"),
        ("zzz", r"unknown model 'zzz'\. lexiseg.list_models\(\) names all"),
        ("", "unknown model ''"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(name)


@pytest.mark.usefixtures("models")
def test_misuse() -> None:
    with pytest.raises(ValueError, match="names its weights, and others came; give 'large'"):
        create_model("large.coco", weights="mine.pt")

    def small() -> None: ...

    with pytest.raises(ValueError, match="'small' is registered already"):
        register_model(small)


def test_from_pretrained(registered_painter: str, flag: np.ndarray, tmp_path: Path) -> None:
    for name in (registered_painter, "painter.tests"):
        assert (Segmenter.from_pretrained(name)(flag, "red").label_map == 0).all()
    path = tmp_path / "mine.safetensors"
    with pytest.raises(ValueError, match="no weights at"):
        Segmenter.from_pretrained(path)
    save_weights(path, {"gain": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="does not say which model"):
        Segmenter.from_pretrained(path)
    save_weights(path, {"gain": torch.tensor(1.0)}, {"model": "painter"})
    Segmenter.from_pretrained(os.fspath(path))
    with pytest.raises(ValueError, match="unknown model 'paintr'; did you mean 'painter'"):
        Segmenter.from_pretrained("paintr")


def test_models_without_weights_to_load(
    monkeypatch: pytest.MonkeyPatch, registered_painter: str
) -> None:
    monkeypatch.setattr("lexiseg.methods.WEIGHTS", {})
    with pytest.raises(ValueError, match="model 'painter' has no weights to load"):
        Segmenter.from_pretrained(registered_painter)
    assert registry.create_model(registered_painter) is not None
