import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS, pack, pack_image_side, read_encoder
from lexiseg.training.loop import fit
from lexiseg.training.metrics import read_metrics
from lexiseg.training.recipes import lite, lite_start
from lexiseg.weights import read_weights, save_weights
from tests.training.recipes.halves import Halves


class Sees:
    """A teacher that is never asked."""

    def __init__(self, name: str) -> None:
        self.names = (name,)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        raise NotImplementedError


TRAINED_LAST = ("fusion.", "image_projection.", "text_projection.", "logit_scale")
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
    monkeypatch.setattr(lite_start, "load_starting_weights", lambda encoder: None)
    monkeypatch.setattr(lite, "read_teachers", lambda data: TEACHERS)
    monkeypatch.setattr(lite, "read_teacher", lambda weights: (["a", "b"], torch.eye(2)))
    return asked


def test_the_encoder_is_trained_in_four_stages(
    tmp_path: Path, nothing_bundled: list[dict[str, object]]
) -> None:
    config = replace(lite.LITE.config, steps=1, batch_size=2, precision="float32")
    job = lite.lite(tmp_path, config)
    weights = fit(job, config, tmp_path / "run")
    stages = ("", "taught", "taught/fine", "taught/fine/whole")
    assert all((tmp_path / "run" / stage / "checkpoints").is_dir() for stage in stages)
    written = [read_metrics(tmp_path / "run" / stage / "metrics.jsonl") for stage in stages]
    assert job.next is not None
    assert config.steps + job.next.steps == sum(map(len, written))
    assert [choices.get("teachers") for choices in nothing_bundled] == [
        None,
        [TEACHERS[0]],
        [*TEACHERS],
        [*TEACHERS],
    ]
    assert [choices["varied"].crop for choices in nothing_bundled] == [256, 256, 320, None]
    state = read_weights(weights)
    assert "text.token_embedding.weight" in state
    frozen = [name for name in state if name.startswith(("backbone.stem", "backbone.stages.0."))]
    assert frozen


def test_the_first_stages_of_the_backbone_stay_in_the_third_stage(
    tmp_path: Path, nothing_bundled: list[dict[str, object]]
) -> None:
    encoder = lite.Lite()
    encoder.text.requires_grad_(False)
    stage = lite.fine_stage(encoder, tmp_path, lite.LITE.config, [])
    names = {name for group in stage.build().groups for name in group["names"]}
    assert not any(".stem." in name or ".stages.2." in name for name in names)
    assert any(".stages.3." in name for name in names)
    assert stage.config.steps == round(lite.LITE.config.steps * 5 / 6)


def test_the_last_stage_trains_what_follows_the_backbone(
    tmp_path: Path, nothing_bundled: list[dict[str, object]]
) -> None:
    start, before = random_start(tmp_path / "start.safetensors")
    config = replace(lite.LITE_WHOLE.config, steps=2, batch_size=2, start=start)
    after = read_weights(fit(lite.lite_whole(tmp_path, config), config, tmp_path / "run"))
    changed = {name for name, value in after.items() if not value.equal(before[name])}
    assert {"fusion.mix.0.conv.weight", "image_projection.weight"} < changed
    assert all(name.startswith(TRAINED_LAST) for name in changed)
    assert not any("running" in name for name in changed)


def test_the_last_stage_alone_asks_for_earlier_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no start came; give a file of weights of `lexiseg train"):
        lite.lite_whole(tmp_path, lite.LITE_WHOLE.config)


def test_weights_are_stored_a_part_of_the_way_from_their_start(
    tmp_path: Path, nothing_bundled: list[dict[str, object]]
) -> None:
    start, before = random_start(tmp_path / "start.safetensors")
    all_of_it = replace(lite.LITE_WHOLE.config, steps=2, batch_size=2, start=start)
    stored = []
    for config in (all_of_it, replace(all_of_it, part=0.25)):
        job = lite.lite_whole(tmp_path, config)
        stored.append(read_weights(fit(job, config, tmp_path / f"run{config.part}")))
    name = "image_projection.weight"
    whole, quarter = (state[name] - before[name] for state in stored)
    assert whole.abs().max() > 5e-4
    torch.testing.assert_close(quarter, whole / 4, rtol=0, atol=5e-5)
    with pytest.raises(ValueError, match="part 0.25 came without a start"):
        replace(lite.LITE.config, part=0.25)


def random_start(path: Path) -> tuple[str, dict[str, Tensor]]:
    """A file of random weights, and what is in it."""
    torch.manual_seed(0)
    save_weights(path, pack(lite.Lite()))
    return str(path), read_weights(path)


def saved(path: Path, value: float, store: Callable[[lite.Lite], dict[str, Tensor]]) -> str:
    """A file of weights that are the same number everywhere."""
    encoder = lite.Lite()
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            tensor.fill_(value)
    save_weights(path, store(encoder))
    return str(path)


@pytest.mark.parametrize("store", [pack, pack_image_side])
def test_training_begins_with_the_weights_it_is_told(
    tmp_path: Path,
    nothing_bundled: list[dict[str, object]],
    store: Callable[[lite.Lite], dict[str, Tensor]],
) -> None:
    start = saved(tmp_path / "start.safetensors", 0.5, store)
    job = lite.lite(tmp_path, replace(lite.LITE.config, start=start))
    trained = [p for p in job.objective.encoder.parameters() if p.requires_grad]
    assert len(trained) > 100
    assert all((p == 0.5).all() for p in trained)
    text = job.objective.encoder.text.state_dict()
    bundled = read_encoder(LITE_WEIGHTS)
    assert all((v == 0.5).all() for v in text.values()) == (store is pack)
    assert all(torch.equal(v, bundled[f"text.{k}"]) for k, v in text.items()) == (store is not pack)


def test_training_begins_with_what_is_bundled_by_name() -> None:
    for name in ("lite", "lite_weak"):
        encoder = lite.Lite()
        lite_start.load_start(encoder, name)
        expected = read_encoder(lite_start.STARTS[name])
        state = encoder.state_dict()
        assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_weights_to_begin_with_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'lite_wek' came; give a file .*: lite or lite_weak"):
        lite_start.load_start(lite.Lite(), "lite_wek")
    path = tmp_path / "head.safetensors"
    save_weights(path, {"decoder.weight": torch.ones(2)})
    with pytest.raises(ValueError, match=r"(?s)head.safetensors' is no encoder .*decoder.weight"):
        lite_start.load_start(lite.Lite(), str(path))


def test_names_that_would_not_be_unseen_are_refused(tmp_path: Path) -> None:
    config = replace(lite.LITE.config, unseen=0.2)
    for start in ("lite", "lite_weak"):
        with pytest.raises(ValueError, match="what is bundled has learned these names"):
            lite.lite(tmp_path, replace(config, start=start))
    lite_start.check_start(replace(config, start="lite_weak", unseen_in="masks"))
    with pytest.raises(ValueError, match="lite_weak holds no names out, lite does"):
        lite.lite_weak(tmp_path, config)
    nothing = replace(config, unseen=0.0, unseen_in="masks")
    with pytest.raises(ValueError, match="without names to hold out; set unseen=0.2"):
        lite.lite_samples(tmp_path, nothing, varied=lite.CROPS)


def test_where_names_are_unseen_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="unseen_in 'cutouts' came; choose one of everything, mas"):
        replace(lite.LITE.config, unseen_in="cutouts")


@pytest.mark.parametrize("unseen", [-0.1, 1.0])
def test_the_share_of_unseen_names_is_checked(unseen: float) -> None:
    with pytest.raises(ValueError, match=f"unseen {unseen} came; it is a share"):
        replace(lite.LITE.config, unseen=unseen)
