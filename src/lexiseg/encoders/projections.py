"""Projections of queries, keys and values: apart under our names, fused in most published files."""

from collections.abc import Mapping

import torch
from torch import Tensor


def split_projections(state: Mapping[str, Tensor], fused: str) -> dict[str, Tensor]:
    """Each tensor whose name ends with ``fused`` as three, with "q_proj_weight" and so on."""
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(fused):
            stem = key.removesuffix(fused)
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                split[f"{stem}{letter}_proj_weight"] = part
        else:
            split[key] = value
    return split


def join_projections(state: Mapping[str, Tensor], fused: str) -> dict[str, Tensor]:
    """The reverse of :func:`split_projections`."""
    joined = dict(state)
    for key in [key for key in joined if key.endswith("q_proj_weight")]:
        stem = key.removesuffix("q_proj_weight")
        parts = [joined.pop(f"{stem}{letter}_proj_weight") for letter in "qkv"]
        joined[stem + fused] = torch.cat(parts)
    return joined
