from collections import Counter

import pytest
import torch

from lexiseg.methods.escnet import set_finetuning
from lexiseg.methods.escnet.finetuning import learning_rates
from lexiseg.training.optim import parameter_groups
from tests.methods import contract


@pytest.mark.parametrize("pretrained_sam", [True, False])
@pytest.mark.parametrize("name", ["escnet_vitb16", "escnet_lite"])
def test_each_parameter_has_one_rate(name: str, pretrained_sam: bool) -> None:
    model = contract.make(name)
    rates = learning_rates(model, pretrained_sam=pretrained_sam)
    assert list(rates) == [name for name, _ in model.named_parameters()]
    factors = set_finetuning(model, pretrained_sam=pretrained_sam)
    groups = parameter_groups(model, lr=2e-4, weight_decay=0.1, multipliers=factors)
    of_group = Counter(name for group in groups for name in group["names"])
    assert set(of_group.values()) == {1}
    assert set(of_group) == {name for name, rate in rates.items() if rate != "frozen"}
    for group in groups:
        expected = "small" if group["lr"] == pytest.approx(2e-6) else "base"
        assert {rates[name] for name in group["names"]} == {expected}
    torch.optim.AdamW(groups)


def test_what_trains_with_pretrained_parts() -> None:
    rates = learning_rates(contract.make("escnet_vitb16"), pretrained_sam=True)
    sam, head = "rounds.blocks.1.sam.", "rounds.blocks.1."
    expected = {
        "encoder.visual.blocks.0.attention.q_proj_weight": "small",
        "encoder.text.blocks.0.attention.v_proj_weight": "small",
        "encoder.visual.position_embedding": "small",
        "encoder.text.position_embedding": "small",
        "encoder.visual.blocks.0.attention.k_proj_weight": "frozen",
        "encoder.visual.blocks.0.mlp.expand.weight": "frozen",
        "encoder.visual.projection": "frozen",
        "encoder.logit_scale": "frozen",
        f"{sam}layers.0.self_attention.k.weight": "small",
        f"{sam}layers.1.image_to_tokens.out.bias": "small",
        f"{sam}layers.1.mlp.0.weight": "frozen",
        f"{sam}layers.1.norm4.weight": "frozen",
        f"{sam}prompts.kinds.1.weight": "frozen",
        f"{head}aggregate.weight": "base",
        f"{head}fusion.lift.weight": "base",
        f"{head}fusion.text.q.weight": "base",
        "image_projection.weight": "base",
        "rounds.decoder.head.weight": "base",
    }
    assert {name: rates[name] for name in expected} == expected


def test_what_begins_at_random_trains_like_the_head() -> None:
    rates = learning_rates(contract.make("escnet_lite"), pretrained_sam=False)
    sam = "rounds.blocks.0.sam."
    assert rates[f"{sam}layers.0.mlp.0.weight"] == "base"
    assert rates[f"{sam}prompts.kinds.1.weight"] == "base"
    assert rates[f"{sam}prompts.kinds.2.weight"] == "frozen"
    assert {rate for name, rate in rates.items() if name.startswith("encoder.")} == {"frozen"}


def test_an_encoder_can_be_frozen() -> None:
    model = contract.make("escnet_vitb16")
    set_finetuning(model, pretrained_sam=True, encoder=False)
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    set_finetuning(model, pretrained_sam=True)
    assert any(parameter.requires_grad for parameter in model.encoder.parameters())


def test_what_is_frozen_gets_no_gradient() -> None:
    model = contract.make("escnet_vitb16")
    rates = learning_rates(model, pretrained_sam=True)
    set_finetuning(model, pretrained_sam=True)
    texts = model.encode_texts([["a cat"], ["a dog"]])
    model(contract.prepared(model), texts).square().mean().backward()
    for name, parameter in model.named_parameters():
        if rates[name] == "frozen":
            assert parameter.grad is None, name
