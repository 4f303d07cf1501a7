import torch
from torch import nn

from lexiseg.layers.blocks import MLP, LayerNorm2d, QuickGELU, TransformerBlock


def test_quick_gelu_by_hand():
    found = QuickGELU()(torch.tensor([-1.0, 0.0, 2.0]))
    expected = torch.tensor([-0.154205, 0.0, 1.935659])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_mlp_has_the_activation_asked_for():
    assert isinstance(MLP(4, 8, "quick_gelu").activation, QuickGELU)
    assert isinstance(MLP(4, 8).activation, nn.GELU)
    assert MLP(4, 8)(torch.ones(2, 3, 4)).shape == (2, 3, 4)


def test_a_causal_block_does_not_look_ahead():
    block = TransformerBlock(16, 2, "gelu")
    tokens = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 4:] = 0
    before, after = block(tokens, causal=True), block(changed, causal=True)
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(block(tokens)[:, :4], block(changed)[:, :4], atol=1e-3)


def test_layer_norm_of_maps():
    norm, x = LayerNorm2d(5), torch.randn(2, 5, 3, 4)
    torch.nn.init.normal_(norm.weight)
    centred = x - x.mean(1, keepdim=True)
    by_hand = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), by_hand * norm.weight[:, None, None])
