import pytest
import torch

from lexiseg.methods.catseg import set_finetuning
from lexiseg.training.optim import parameter_groups
from tests.methods import contract
from tests.methods.catseg.test_model import make_stride_two


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def in_encoder(model: torch.nn.Module) -> set[str]:
    return {name for name in trained(model) if name.startswith("encoder.")}


def test_attention_trains_queries_and_values() -> None:
    model = contract.make("catseg_vitb16")
    set_finetuning(model, "attention")
    blocks = [f"visual.blocks.{i}" for i in range(3)] + ["text.blocks.0"]
    assert in_encoder(model) == {
        f"encoder.{block}.attention.{letter}_proj_weight" for block in blocks for letter in "qv"
    }


def test_full_trains_blocks_only() -> None:
    model = contract.make("catseg_vitb16")
    set_finetuning(model, "full")
    assert all(".blocks." in name for name in in_encoder(model))
    assert len(in_encoder(model)) == 4 * 14


def test_modes_can_be_changed_and_never_freeze_the_head() -> None:
    model = contract.make("catseg_vitb16")
    head = trained(model) - in_encoder(model)
    set_finetuning(model, "full")
    set_finetuning(model, "freeze")
    assert trained(model) == head


def test_an_encoder_without_blocks() -> None:
    model = make_stride_two()
    set_finetuning(model, "full")
    assert in_encoder(model) == {f"encoder.{name}" for name, _ in model.encoder.named_parameters()}
    with pytest.raises(ValueError, match="Pyramid has no attention blocks"):
        set_finetuning(model, "attention")


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown fine-tuning mode 'prompt'; choose one of"):
        set_finetuning(make_stride_two(), "prompt")


def test_groups_hold_what_is_trained_once() -> None:
    model = contract.make("catseg_vitb16")
    set_finetuning(model, "full")
    groups = parameter_groups(
        model, lr=1.0, weight_decay=0.5, multipliers={"encoder.": 0.1}, decay_vectors=True
    )
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(trained(model))
    for group in groups:
        assert {name.startswith("encoder.") for name in group["names"]} == {group["lr"] == 0.1}
        assert {".norm" in n or "_norm." in n for n in group["names"]} == {
            group["weight_decay"] == 0
        }
    torch.optim.AdamW(groups)
