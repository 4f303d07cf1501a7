import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from lexiseg.data.mixture import TrainingSample
from lexiseg.training.loop import fit
from lexiseg.training.recipes import lite
from lexiseg.weights import read_weights


class Halves(Dataset[TrainingSample]):
    """Noise, labelled left and right."""

    names = ("grass", "sky")

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> TrainingSample:
        labels = torch.zeros(64, 64, dtype=torch.long)
        labels[:, 32:] = 1
        generator = torch.Generator().manual_seed(index)
        return TrainingSample(torch.randn(3, 64, 64, generator=generator), labels, self.names)

    def fingerprint(self) -> str:
        return "halves"


def test_catseg_lite_trains_the_head_alone_in_two_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite, "_samples", lambda data, config: Halves())
    config = replace(lite.CATSEG_LITE.config, steps=4, batch_size=2)
    job = lite.catseg_lite(tmp_path, config)
    assert not any("encoder." in name for group in job.groups for name in group["names"])
    assert job.next is not None
    finish = job.next.config
    assert (finish.steps, finish.average) == (1, 0.98)
    assert finish.seed not in range(100)  # the seeds that other runs are given
    assert finish.optim.lr == pytest.approx(0.6 * config.optim.lr)
    weights = fit(job, config, tmp_path / "run")
    state = read_weights(weights)
    assert state
    assert not any(name.startswith("encoder.") for name in state)
    assert (tmp_path / "run" / "finish" / "checkpoints" / "step-000001").is_dir()


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
