import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg.training.loop import fit
from lexiseg.training.recipes import lite
from lexiseg.weights import read_weights
from tests.training.recipes.halves import Halves


class Sees:
    """A teacher that is never asked."""

    def __init__(self, name: str) -> None:
        self.names = (name,)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        raise NotImplementedError


TEACHERS = (Sees("cat"), Sees("tench"))


def test_the_teacher_is_read_and_centred(tmp_path: Path) -> None:
    folder = tmp_path / "clip-text-embeddings"
    folder.mkdir()
    rows = np.array([[3.0, 0.0], [0.0, 2.0]], np.float16)
    (folder / "vitb32_x.names.json").write_text(json.dumps(["Traffic_light", "a/b"]))
    np.save(folder / "vitb32_x.npy", rows)
    names, vectors = lite.read_teacher(tmp_path)
    assert names == ["traffic light", "a or b"]
    torch.testing.assert_close(vectors, torch.tensor([[0.5, -0.5], [-0.5, 0.5]]))
    with pytest.raises(ValueError, match=r"holds no vitb32_\*\.names\.json"):
        lite.read_teacher(tmp_path / "clip-text-embeddings")


@pytest.fixture
def nothing_bundled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """The recipes on ``Halves``, without starting weights; what each asked the mixture for."""
    asked: list[dict[str, object]] = []

    def samples(data: Path, config: object, **choices: object) -> Halves:
        asked.append(choices)
        return Halves()

    monkeypatch.setattr(lite, "lite_samples", samples)
    monkeypatch.setattr(lite, "load_starting_weights", lambda encoder: None)
    monkeypatch.setattr(lite, "read_teachers", lambda data: TEACHERS)
    monkeypatch.setattr(lite, "read_teacher", lambda weights: (["a", "b"], torch.eye(2)))
    return asked


def test_the_encoder_is_trained_in_three_stages(
    tmp_path: Path, nothing_bundled: list[dict[str, object]]
) -> None:
    config = replace(lite.LITE.config, steps=1, batch_size=2, precision="float32")
    job = lite.lite(tmp_path, config)
    weights = fit(job, config, tmp_path / "run")
    stages = ("", "taught", "taught/fine")
    assert all((tmp_path / "run" / stage / "checkpoints").is_dir() for stage in stages)
    assert [choices.get("teachers") for choices in nothing_bundled] == [
        None,
        [TEACHERS[0]],
        [*TEACHERS],
    ]
    assert [choices["crop"] for choices in nothing_bundled] == [256, 256, 320]
    state = read_weights(weights)
    assert "text.token_embedding.weight" in state
    frozen = [name for name in state if name.startswith(("backbone.stem", "backbone.stages.0."))]
    assert frozen


def test_the_first_stages_of_the_backbone_stay_in_the_last_stage(
    tmp_path: Path, nothing_bundled: list[dict[str, object]]
) -> None:
    encoder = lite.Lite()
    encoder.text.requires_grad_(False)
    stage = lite.fine_stage(encoder, tmp_path, lite.LITE.config, [])
    names = {name for group in stage.build().groups for name in group["names"]}
    assert not any(".stem." in name or ".stages.2." in name for name in names)
    assert any(".stages.3." in name for name in names)
    assert stage.config.steps == round(lite.LITE.config.steps * 5 / 6)


@pytest.mark.parametrize("unseen", [-0.1, 1.0])
def test_the_share_of_unseen_names_is_checked(unseen: float) -> None:
    with pytest.raises(ValueError, match=f"unseen {unseen} came; it is a share"):
        replace(lite.LITE.config, unseen=unseen)
