"""The patch-text cost."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def cosine_cost(
    patch_features: Float[Tensor, "B D h w"], text_features: Float[Tensor, "T D"]
) -> Float[Tensor, "B T h w"]:
    """Cosine of each patch and each text, between -1 and 1.

    Args:
        patch_features: of any length.
        text_features: of length one.
    """
    return torch.einsum("bdhw,td->bthw", F.normalize(patch_features, dim=1), text_features)
