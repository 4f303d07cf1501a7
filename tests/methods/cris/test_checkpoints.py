from collections import Counter
from pathlib import Path

import pytest
import torch

import lexiseg
from lexiseg import registry
from lexiseg.encoders.checkpoints import to_openai
from lexiseg.methods.cris import CRIS
from lexiseg.methods.cris.checkpoints import WEIGHTS, from_published, to_published
from lexiseg.segmenter import Segmenter
from tests.methods import contract


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> CRIS:
    monkeypatch.setitem(registry._BUILDERS, "tiny", contract.tiny_cris)
    torch.manual_seed(0)
    return contract.tiny_cris()


def test_a_file_as_the_authors_save_it(tiny: CRIS, tmp_path: Path) -> None:
    """With what else they put there: epoch, scores, optimizer and scheduler."""
    state = to_published(tiny.state_dict())
    assert all(key.startswith("module.") for key in state)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([{"params": [weight], "initial_lr": 1e-4}], lr=1e-4)
    weight.grad = torch.ones(3)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [35], gamma=0.1)
    assert isinstance(scheduler.state_dict()["milestones"], Counter)
    content = {
        "epoch": 49,
        "cur_iou": 69.1,
        "best_iou": torch.tensor(69.5),
        "prec": {"Pr@50": 80.2, "Pr@90": 15.0},
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    torch.save(content, tmp_path / "best_model.pth")
    loaded = lexiseg.create_model("tiny", weights=tmp_path / "best_model.pth").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in tiny.state_dict().items())
    bare = {key.removeprefix("module."): value for key, value in state.items()}
    assert from_published(bare).keys() == tiny.state_dict().keys()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_clip_starts_a_new_model(tiny: CRIS, prefix: str) -> None:
    """Its towers come from the file; the rest, "connect" included, is as it was drawn."""
    clip = {f"{prefix}{key}": value for key, value in to_openai(tiny.encoder.state_dict()).items()}
    without = {key: value for key, value in clip.items() if ".connect." not in key}
    assert len(without) < len(clip)
    extras = {name: torch.tensor(7) for name in ("input_resolution", "vocab_size")}
    torch.manual_seed(5)
    started = lexiseg.create_model("tiny", weights=without | ({} if prefix else extras))
    torch.manual_seed(5)
    drawn = contract.tiny_cris().state_dict()
    given = tiny.state_dict()
    for key, value in started.state_dict().items():
        of_clip = key.startswith("encoder.") and ".connect." not in key
        assert torch.equal(value, (given if of_clip else drawn)[key]), key


def test_a_file_of_another_variant_is_told(tiny: CRIS) -> None:
    state = to_published(tiny.state_dict())
    state["module.proj.extra"] = state.pop("module.proj.txt.bias")
    with pytest.raises(
        ValueError, match="1 missing: projector.kernel.bias\n.*1 unexpected: proj.ex"
    ):
        lexiseg.create_model("tiny", weights=state)


@pytest.mark.parametrize("name", [n for n in WEIGHTS if not n.startswith("cris_lite")])
def test_records(name: str) -> None:
    assert name in lexiseg.list_models(pretrained=True)
    with pytest.raises(ValueError, match="take them from https://github.com/DerrickWang005/CRIS"):
        Segmenter.from_pretrained(name)


def test_sizes_of_the_published_models() -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in registry.builder_of(name)().parameters()) / 1e6
            for name in ("cris_r50", "cris_r101")
        ]
    assert sizes == pytest.approx([146.85, 161.25], abs=0.01)
