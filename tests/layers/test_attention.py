import pytest
import torch
from torch import nn

from lexiseg.layers.attention import SelfAttention


def tokens(count: int = 5) -> torch.Tensor:
    return torch.randn(2, count, 16, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_torchs_multi_head_attention(causal):
    torch.manual_seed(0)
    ours = SelfAttention(16, 4)
    nn.init.normal_(ours.in_proj_bias)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        weights = [ours.q_proj_weight, ours.k_proj_weight, ours.v_proj_weight]
        theirs.in_proj_weight.copy_(torch.cat(weights))
        theirs.in_proj_bias.copy_(ours.in_proj_bias)
        theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    mask = torch.full((5, 5), -torch.inf).triu(1) if causal else None
    expected, _ = theirs(tokens(), tokens(), tokens(), attn_mask=mask, need_weights=False)
    torch.testing.assert_close(ours(tokens(), causal=causal), expected, rtol=0, atol=1e-6)


def test_one_query_over_all_tokens_is_its_row():
    attention = SelfAttention(16, 2)
    row = attention(tokens()[:, :1], tokens())
    torch.testing.assert_close(row, attention(tokens())[:, :1], rtol=0, atol=1e-6)


def test_values_are_attention_to_oneself():
    attention = SelfAttention(16, 2)
    torch.testing.assert_close(attention.values(tokens(1)), attention(tokens(1)), rtol=0, atol=1e-6)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="16 channels cannot be split into 3 heads"):
        SelfAttention(16, 3)
