"""CAT-Seg's parts without a choice that depends on the size of the grid or the number of texts.

Letters beyond the library's: C hidden width, c that of a head, n heads, i j windows down and
across, p r cells of one, hp wp a grid of whole windows.
"""

import copy

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from lexiseg.layers.linear_attention import attend, positive
from lexiseg.layers.maps import Maps, cost_part, guidance_part
from lexiseg.layers.swin import NO_CELL, OTHER_REGION, OfGuidance, WindowAttention
from lexiseg.methods.catseg import CATSeg
from lexiseg.methods.catseg.classes import ClassAggregation


class OpenWindowAttention(nn.Module):
    """A ``WindowAttention`` without a choice that depends on the size of the grid.

    It always pads, shifts (by nothing where there is one window) and masks; a mask of zeros changes
    nothing.
    """

    def __init__(self, attention: WindowAttention) -> None:
        super().__init__()
        self.attention = attention
        self.project_guidance = attention.project_guidance

    def forward(self, x: Maps, guidance: OfGuidance) -> Maps:
        """What each cell gathers; ``guidance`` holds its parts of queries and keys."""
        own = self.attention
        height, width = x.shape[2:4]
        rows, columns = (Axis(side, own.window, own.shift, x.device) for side in (height, width))
        of_q, of_k = (self._opened(part[:, None], rows, columns) for part in guidance)
        x = self._opened(x, rows, columns)
        attended = F.scaled_dot_product_attention(
            self._windows(cost_part(own.q, x) + of_q, rows, columns),
            self._windows(cost_part(own.k, x) + of_k, rows, columns),
            self._windows(own.v(x), rows, columns),
            attn_mask=self._mask(rows, columns),
        )
        batch, texts = x.shape[:2]
        sizes = (batch, texts, rows.windows, columns.windows, own.heads, own.window, own.window, -1)
        cells = attended.reshape(sizes).permute(0, 1, 2, 5, 3, 6, 4, 7)
        whole = cells.reshape(batch, texts, rows.length, columns.length, -1)
        whole = whole.index_select(2, rows.back).index_select(3, columns.back)
        return own.proj(whole[:, :, :height, :width])

    @staticmethod
    def _opened(x: Maps, rows: "Axis", columns: "Axis") -> Float[Tensor, "B T hp wp C"]:
        x = F.pad(x, (0, 0, 0, columns.padding, 0, rows.padding))
        return x.index_select(2, rows.there).index_select(3, columns.there)

    def _windows(
        self, x: Float[Tensor, "B T hp wp C"], rows: "Axis", columns: "Axis"
    ) -> Float[Tensor, "BT ijn pr c"]:
        own = self.attention
        batch, texts = x.shape[:2]
        sizes = (batch, texts, rows.windows, own.window, columns.windows, own.window, own.heads, -1)
        cells = x.reshape(sizes).permute(0, 1, 2, 4, 6, 3, 5, 7)
        of_window = (rows.windows * columns.windows * own.heads, own.window * own.window)
        return cells.reshape(batch * texts, *of_window, -1)

    def _mask(self, rows: "Axis", columns: "Axis") -> Float[Tensor, "1 ijn pr pr"]:
        """As ``window_mask``: cells that only the shift or the padding brought together."""
        side = self.attention.window
        sizes = (rows.windows, side, columns.windows, side)

        def by_window(cells: Tensor) -> Tensor:
            return cells.reshape(sizes).permute(0, 2, 1, 3).reshape(-1, side * side)

        region = by_window(2 * rows.wrapped[:, None] + columns.wrapped[None, :])
        real = by_window((rows.exists[:, None] & columns.exists[None, :]).int()) > 0
        apart = region[:, :, None] != region[:, None, :]
        mask = torch.where(apart, OTHER_REGION, 0.0)
        mask = torch.where(real[:, None, :], mask, NO_CELL)
        return repeat(mask, "M S Z -> 1 (M n) S Z", n=self.attention.heads)


class Axis:
    """How one side of a grid is padded to whole windows and shifted.

    Attributes:
        windows: number of them.
        length: cells with the padding.
        padding: cells of the padding.
        there: which cell comes to each place.
        back: the other way.
        wrapped: 1 where the shift brought a cell from the other end, else 0.
        exists: False for padding.
    """

    def __init__(self, side: int, window: int, shift: int, device: torch.device) -> None:
        self.windows = (side + window - 1) // window
        self.length = self.windows * window
        self.padding = self.length - side
        places = torch.arange(self.length, device=device)
        # From here on tensors alone: not every operator takes an open size as a number.
        length = places[-1] + 1
        cells = torch.arange(side, device=device)[-1] + 1
        # Windows shift only along a side that holds more than one of them.
        moved = shift * (length > window).to(places.dtype)
        self.there = _cyclic(places + moved, length)
        self.back = _cyclic(places - moved + length, length)
        self.wrapped = (places >= length - moved).int()
        self.exists = self.there < cells


def _cyclic(places: Int[Tensor, " S"], length: Int[Tensor, ""]) -> Int[Tensor, " S"]:
    """Places up to twice the length, back within it."""
    return torch.where(places >= length, places - length, places)


class OpenClassAggregation(nn.Module):
    """A ``ClassAggregation`` of all texts at once, however many there are."""

    def __init__(self, aggregation: ClassAggregation) -> None:
        super().__init__()
        self.aggregation = aggregation

    def forward(
        self,
        x: Maps,
        guidance: Float[Tensor, "T C"],
        *,
        pooling: int = 1,
        class_chunk: int | None = None,
        reuse: bool = False,
    ) -> Maps:
        """Refined maps; each text reads all others at its own cell."""
        own = self.aggregation
        normed = own.norm1(x)
        of_q, of_k = (
            own._split_heads(guidance_part(linear, guidance)[:, None, None])
            for linear in (own.q, own.k)
        )
        k = positive(own._split_heads(cost_part(own.k, normed)) + of_k)
        products = torch.einsum("bthwnc,bthwnd->bhwncd", k, own._split_heads(own.v(normed)))
        keys = k.sum(dim=1)
        if own.padding_length:
            pad_k, pad_v = own._padding()
            count = torch.ones_like(guidance[:, 0]).sum()
            missing = F.relu(own.padding_length - count)
            products = products + missing * torch.einsum("nc,nd->ncd", pad_k, pad_v)
            keys = keys + missing * pad_k
        q = own._split_heads(cost_part(own.q, normed)) + of_q
        z = x + attend(positive(q), products, keys)
        z = z + own.mlp(own.norm2(z))
        return x + z  # the published layer adds its input again


def opened(model: CATSeg) -> CATSeg:
    """A copy whose parts work at any grid and number of texts, in one graph."""
    if model.class_pooling != 1:
        raise ValueError(f"class_pooling {model.class_pooling} came; only 1 can be exported")
    model = copy.deepcopy(model)
    model.class_chunk = None
    for part in list(model.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, WindowAttention):
                setattr(part, name, OpenWindowAttention(child))
            elif isinstance(child, ClassAggregation):
                setattr(part, name, OpenClassAggregation(child))
    return model
