"""A CLIP of a few thousand numbers, the same at every run."""

import torch

from lexiseg.encoders.clip import CLIP, CLIPConfig, build_clip
from lexiseg.encoders.clip_vit import Dense
from tests.parity import fill

TINY = CLIPConfig(
    dim=24,
    image_size=32,
    patch_size=8,
    vision_width=64,
    vision_layers=3,
    text_width=64,
    text_layers=2,
)


def tiny_clip(*, dense: Dense = "final") -> CLIP:
    model = build_clip(TINY, dense=dense).eval()
    state = {
        key: torch.from_numpy(fill(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model
