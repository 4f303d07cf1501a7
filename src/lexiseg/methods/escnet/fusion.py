"""Vision-language fusion: the image guides the correlation over space, the texts over meaning.

Letters beyond the library's: C hidden width, D channels of SAM, n heads, c width of a head,
H W patches, h w cells of SAM's grid, t texts of a chunk.
"""

import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.linear import Linear
from lexiseg.layers.linear_attention import attend, positive
from lexiseg.layers.maps import Maps
from lexiseg.layers.swin import OfGuidance, SpatialAggregation

OfTexts = tuple[Float[Tensor, "1 1 1 n c c"], Float[Tensor, "1 1 1 n c"]]


class VisionLanguageFusion(nn.Module):
    """Lifts each map to many channels and refines it under the image, then under all texts.

    Args:
        dim: channels of the image features.
        text_dim: of a text feature.
        hidden: width of a lifted map.
        heads: of both attentions.
        window: side of a Swin window, in cells.
        stride: patches to a cell.
        last: True where the decoder reads the lifted maps, so that none is brought back.
    """

    def __init__(
        self,
        *,
        dim: int,
        text_dim: int,
        hidden: int,
        heads: int,
        window: int,
        stride: int,
        last: bool,
    ) -> None:
        super().__init__()
        self.lift = nn.Conv2d(1, hidden, stride, stride=stride)
        self.spatial = SpatialAggregation(hidden=hidden, heads=heads, window=window, guidance=dim)
        self.text = TextGuidance(text_dim=text_dim, hidden=hidden, heads=heads)
        if not last:
            self.to_map = nn.Conv2d(hidden, stride * stride, 3, padding=1)
            nn.init.zeros_(self.to_map.weight)  # a block starts by leaving the map as it is
            nn.init.zeros_(self.to_map.bias)  # type: ignore[arg-type]
        self.stride = stride

    def project_image(self, image: Float[Tensor, "B D h w"]) -> tuple[OfGuidance, OfGuidance]:
        """What the image adds to the fusion of every text."""
        return self.spatial.project_guidance(rearrange(image, "B D h w -> B h w D"))

    def project_texts(self, texts: Float[Tensor, "T F"]) -> OfTexts:
        """What all texts together add to the fusion of every one of them."""
        return self.text.sum_texts(texts)

    def forward(
        self,
        correlation: Float[Tensor, "B t H W"],
        of_image: tuple[OfGuidance, OfGuidance],
        of_texts: OfTexts,
    ) -> Maps:
        """Lifted and refined maps, of each text by itself."""
        lifted = self.lift(rearrange(correlation, "B t H W -> (B t) 1 H W"))
        maps = rearrange(lifted, "(B t) C h w -> B t h w C", B=len(correlation)).contiguous()
        return self.text(self.spatial.refine(maps, of_image), of_texts)

    def read(self, maps: Maps, correlation: Float[Tensor, "B t H W"]) -> Float[Tensor, "B t H W"]:
        """One channel again, added to the correlation that came."""
        flat = self.to_map(rearrange(maps, "B t h w C -> (B t) C h w"))
        change = F.pixel_shuffle(flat, self.stride)
        return correlation + rearrange(change, "(B t) 1 H W -> B t H W", B=len(maps))


class TextGuidance(nn.Module):
    """Linear attention from the cells to all texts, and an MLP.

    Keys and values come from the text features alone, so their sums are made once for all cells,
    images and chunks.
    """

    def __init__(self, *, text_dim: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.text_projection = Linear(text_dim, hidden)
        self.norm1 = nn.LayerNorm(hidden)
        self.q = Linear(hidden, hidden)
        self.k = Linear(hidden, hidden)
        self.v = Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.mlp = nn.Sequential(Linear(hidden, 4 * hidden), nn.ReLU(), Linear(4 * hidden, hidden))

    def sum_texts(self, texts: Float[Tensor, "T F"]) -> OfTexts:
        """Sums over the texts of key x value and of keys."""
        projected = self.text_projection(texts)
        k = positive(rearrange(self.k(projected), "T (n c) -> 1 1 1 T n c", n=self.heads))
        v = rearrange(self.v(projected), "T (n c) -> 1 1 1 T n c", n=self.heads)
        products = reduce(k[..., :, None] * v[..., None, :], "x y z T n c d -> x y z n c d", "sum")
        return products, reduce(k, "x y z T n c -> x y z n c", "sum")

    def forward(self, maps: Maps, of_texts: OfTexts) -> Maps:
        """Refined maps."""
        q = rearrange(
            self.q(self.norm1(maps)), "B t h w (n c) -> 1 (B t h w) 1 1 n c", n=self.heads
        )
        mixed = attend(positive(q), *of_texts)
        maps = maps + mixed.reshape(maps.shape)
        return maps + self.mlp(self.norm2(maps))
