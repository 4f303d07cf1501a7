import pytest
import torch

from lexiseg.encoders.base import Encoder
from lexiseg.encoders.clip import CLIP, CLIPResNetConfig, build_clip_resnet
from tests.parity import fill

TINY_RESNET = CLIPResNetConfig(
    dim=24, image_size=64, vision_width=8, vision_layers=(1, 2, 1, 1), text_width=64, text_layers=1
)

# Pooled, a cell's value, the largest channels of stage 2, a cell of the spatial attention.
GOLDEN = [
    [-0.17088, 0.1947, -0.04315],
    [-0.19599, 0.25988, -0.05219],
    [0.79917, 0.71546, 0.67228],
    [0.0, 0.21456, 0.21333],
]


def tiny_clip_resnet(**changes) -> CLIP:
    model = build_clip_resnet(TINY_RESNET, **changes).eval()
    state = {
        key: torch.from_numpy(fill(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def images(height: int = 64, width: int = 96, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dense", ["value", "spatial"])
def test_stages_have_their_strides(dense):
    model = tiny_clip_resnet(dense=dense)
    assert isinstance(model, Encoder)
    features = model.encode_images(images(), intermediates=(3, 0, 1, 2))
    assert [tuple(maps.shape) for maps in features.intermediates] == [
        *((2, 256, 2, 3), (2, 32, 16, 24), (2, 64, 8, 12), (2, 128, 4, 6))
    ]
    assert features.patch_features.shape == (2, 24, 2, 3)
    assert features.pooled.shape == (2, 24)


def test_golden_values():
    features = tiny_clip_resnet().encode_images(images(), intermediates=(1,))
    spatial = tiny_clip_resnet(dense="spatial").encode_images(images())
    found = torch.stack(
        [
            features.pooled[0, :3],
            features.patch_features[1, :3, 1, 2],
            features.intermediates[0][0, :, 4, 5].topk(3).values,
            spatial.patch_features[1, :3, 1, 2],
        ]
    )
    torch.testing.assert_close(found, torch.tensor(GOLDEN), atol=2e-4, rtol=0)


def test_the_pooled_feature_reads_positions_and_the_mean():
    """Attention by hand: the mean asks, with a position of its own."""
    pool = tiny_clip_resnet().visual.attention_pool
    x = torch.randn(1, 256, 2, 2, generator=torch.Generator().manual_seed(1))
    cells = x[0].flatten(1).T
    tokens = torch.cat([cells.mean(dim=0, keepdim=True), cells]) + pool.position_embedding
    q, k, v = pool.q_proj(tokens[:1]), pool.k_proj(tokens), pool.v_proj(tokens)
    heads = []
    for part in range(4):
        of_head = slice(64 * part, 64 * part + 64)
        weights = (q[:, of_head] @ k[:, of_head].T / 8).softmax(dim=-1)
        heads.append(weights @ v[:, of_head])
    expected = pool.out_proj(torch.cat(heads, dim=-1))
    torch.testing.assert_close(pool(x), expected, atol=1e-4, rtol=1e-4)


def test_a_cells_value_is_its_own():
    pool = tiny_clip_resnet().visual.attention_pool
    x = torch.randn(1, 256, 2, 3, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[..., 0, 0] += 1
    before, after = pool.values(x), pool.values(changed)
    assert not torch.equal(before[..., 0, 0], after[..., 0, 0])
    torch.testing.assert_close(before[..., 1:, 1:], after[..., 1:, 1:])


def test_errors():
    model = tiny_clip_resnet()
    with pytest.raises(ValueError, match="33 x 64 pixels.*multiples of 32.*to 64 x 64"):
        model.encode_images(images(33, 64))
    with pytest.raises(ValueError, match=r"no stages \[4\]; choose from 0 to 3"):
        model.encode_images(images(), intermediates=(4,))
