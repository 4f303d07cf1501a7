"""Linear attention (Katharopoulos et al., ICML 2020): a ratio of two sums over all keys.

Letters beyond the library's: C hidden width, c width of a head, n heads.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from lexiseg.layers.maps import Maps

EPSILON = 1e-6


def attend(
    q: Float[Tensor, "B T h w n c"],
    products: Float[Tensor, "B h w n c c"],
    keys: Float[Tensor, "B h w n c"],
) -> Maps:
    """Linear attention of positive queries, given the sums over all keys."""
    weights = torch.einsum("bthwnc,bhwnc->bthwn", q, keys) + EPSILON
    values = torch.einsum("bthwnc,bhwncd->bthwnd", q, products)
    return rearrange(values / weights[..., None], "B T h w n c -> B T h w (n c)")


def positive(x: Float[Tensor, "*cells c"]) -> Float[Tensor, "*cells c"]:
    """The feature map of linear attention."""
    return F.elu(x) + 1
