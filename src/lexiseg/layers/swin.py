"""A Swin pair over the cells of one text, guided by the image.

Letters beyond the library's: C hidden width, G width of the guidance, c width of a head, n heads,
M windows, S cells of a window, Z the same.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.linear import Linear
from lexiseg.layers.maps import Maps, cost_part, guidance_part, in_chunks

OTHER_REGION = -100.0  # published bias between cells that only the cyclic shift made neighbours
NO_CELL = -1e4  # bias of cells that pad the grid to whole windows; fits into half precision

OfGuidance = tuple[Float[Tensor, "B h w C"], Float[Tensor, "B h w C"]]  # in queries, in keys


class SpatialAggregation(nn.Module):
    """Two Swin blocks over the cells of one text, plain and shifted windows (CAT-Seg, Eq. 4).

    Args:
        hidden: width of the maps.
        heads: of the attention.
        window: side of a window, in cells.
        guidance: width of the guidance; None for that of the maps.
    """

    def __init__(
        self, *, hidden: int, heads: int, window: int, guidance: int | None = None
    ) -> None:
        super().__init__()
        guidance = guidance or hidden
        self.guidance_norm = nn.LayerNorm(guidance)
        sizes = {"hidden": hidden, "heads": heads, "window": window, "guidance": guidance}
        self.plain = SwinBlock(**sizes, shift=0)
        self.shifted = SwinBlock(**sizes, shift=window // 2)

    def forward(
        self,
        x: Maps,
        guidance: Float[Tensor, "B h w G"],
        *,
        class_chunk: int | None = None,
        reuse: bool = False,
    ) -> Maps:
        """Refined maps, of each text by itself; the guidance is projected once for all texts.

        ``reuse`` as in :func:`~lexiseg.layers.maps.in_chunks`.
        """
        projected = self.project_guidance(guidance)
        return in_chunks(lambda part: self.refine(part, projected), class_chunk, x, reuse=reuse)

    def project_guidance(self, guidance: Float[Tensor, "B h w G"]) -> tuple[OfGuidance, OfGuidance]:
        """What the guidance adds to the queries and keys of the plain and the shifted block."""
        guidance = self.guidance_norm(guidance)
        return (
            self.plain.attention.project_guidance(guidance),
            self.shifted.attention.project_guidance(guidance),
        )

    def refine(self, x: Maps, projected: tuple[OfGuidance, OfGuidance]) -> Maps:
        """Refined maps under a guidance that is projected already."""
        of_plain, of_shifted = projected
        return self.shifted(self.plain(x, of_plain), of_shifted)


class SwinBlock(nn.Module):
    """Windowed attention and an MLP, each with a residual."""

    def __init__(self, *, hidden: int, heads: int, window: int, guidance: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden)
        self.attention = WindowAttention(
            hidden=hidden, heads=heads, window=window, guidance=guidance, shift=shift
        )
        self.norm2 = nn.LayerNorm(hidden)
        self.mlp = nn.Sequential(Linear(hidden, 4 * hidden), nn.GELU(), Linear(4 * hidden, hidden))

    def forward(self, x: Maps, guidance: OfGuidance) -> Maps:
        """Refined maps; ``guidance`` holds its parts of queries and keys."""
        x = x + self.attention(self.norm1(x), guidance)
        return x + self.mlp(self.norm2(x))


class WindowAttention(nn.Module):
    """Attention within windows; queries and keys read the guidance too, values do not.

    A grid that is no multiple of the window is padded, and the padding hidden from all cells. The
    windows shift only along an axis that holds more than one of them.
    """

    def __init__(self, *, hidden: int, heads: int, window: int, guidance: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.q = Linear(hidden + guidance, hidden)
        self.k = Linear(hidden + guidance, hidden)
        self.v = Linear(hidden, hidden)
        self.proj = Linear(hidden, hidden)

    def project_guidance(self, guidance: Float[Tensor, "B h w G"]) -> OfGuidance:
        """What the guidance adds to the queries and keys of every text."""
        return guidance_part(self.q, guidance), guidance_part(self.k, guidance)

    def forward(self, x: Maps, guidance: OfGuidance) -> Maps:
        """What each cell gathers; ``guidance`` holds its parts of queries and keys."""
        height, width = x.shape[2:4]
        padded = (height + -height % self.window, width + -width % self.window)
        shifts = tuple(self.shift if side > self.window else 0 for side in padded)
        x = pad_and_roll(x, padded, shifts)
        of_q, of_k = (pad_and_roll(part, padded, shifts)[:, None] for part in guidance)
        mask = window_mask((height, width), self.window, shifts, device=x.device, dtype=x.dtype)
        attended = F.scaled_dot_product_attention(
            self._windows(cost_part(self.q, x) + of_q),
            self._windows(cost_part(self.k, x) + of_k),
            self._windows(self.v(x)),
            attn_mask=None if mask is None else repeat(mask, "M S Z -> 1 (M n) S Z", n=self.heads),
        )
        attended = rearrange(
            attended,
            "(B T) (i j n) (p r) c -> B T (i p) (j r) (n c)",
            B=len(x),
            i=padded[0] // self.window,
            j=padded[1] // self.window,
            p=self.window,
        )
        if any(shifts):
            attended = torch.roll(attended, shifts, dims=(2, 3))
        return self.proj(attended[:, :, :height, :width])

    def _windows(self, x: Maps) -> Float[Tensor, "BT Mn S c"]:
        return rearrange(
            x,
            "B T (i p) (j r) (n c) -> (B T) (i j n) (p r) c",
            p=self.window,
            r=self.window,
            n=self.heads,
        )


def pad_and_roll(
    x: Float[Tensor, "*maps h w C"], padded: tuple[int, int], shifts: tuple[int, ...]
) -> Float[Tensor, "*maps hp wp C"]:
    """Zeros right and below up to ``padded``, then a cyclic shift up and left."""
    height, width = x.shape[-3:-1]
    if padded != (height, width):
        x = F.pad(x, (0, 0, 0, padded[1] - width, 0, padded[0] - height))
    if any(shifts):
        x = torch.roll(x, tuple(-shift for shift in shifts), dims=(-3, -2))
    return x


def window_mask(
    size: tuple[int, int],
    window: int,
    shifts: tuple[int, ...],
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "M S S"] | None:
    """Bias that keeps cells of one window apart where shift or padding brought them together.

    Args:
        size: of the grid before padding.
        window: side of a window.
        shifts: cyclic shift up and left.
        device: of the result.
        dtype: of the result.

    Returns:
        None where no two cells need keeping apart.
    """
    if not any(shifts) and not any(side % window for side in size):
        return None
    wrapped, exists = [], []
    for side, shift in zip(size, shifts, strict=True):
        length = side + -side % window
        position = torch.arange(length, device=device)
        wrapped.append(position >= length - shift)
        exists.append((position + shift) % length < side)
    cells = "(i p) (j r) -> (i j) (p r)"
    region = 2 * wrapped[0][:, None] + wrapped[1][None, :].int()
    region = rearrange(region, cells, p=window, r=window)
    real = rearrange(exists[0][:, None] & exists[1][None, :], cells, p=window, r=window)
    apart = region[:, :, None] != region[:, None, :]
    mask = torch.zeros(apart.shape, device=device, dtype=dtype)
    return mask.masked_fill(apart, OTHER_REGION).masked_fill(~real[:, None, :], NO_CELL)
