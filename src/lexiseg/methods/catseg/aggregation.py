"""Cost aggregation: embed the patch-text cost, then refine it over space and over classes."""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.layers.maps import Maps, in_chunks
from lexiseg.layers.swin import SpatialAggregation
from lexiseg.methods.catseg.classes import ClassAggregation


class Aggregator(nn.Module):
    """Embeds the cost of each text and alternates spatial and class aggregation (paper, 3.3).

    Args:
        dim: width of the joint space of patches and texts.
        hidden: width of an embedded cost.
        heads: of both attentions.
        layers: pairs of spatial and class aggregation.
        window: side of a Swin window, in cells.
        cost_stride: patches to a cell of the aggregation grid.
        padding_length: number of texts up to which the class attention is filled with a learned
            token; None or 0 for no such token.
    """

    def __init__(
        self,
        *,
        dim: int,
        hidden: int = 128,
        heads: int = 4,
        layers: int = 2,
        window: int = 12,
        cost_stride: int = 1,
        padding_length: int | None = 256,
    ) -> None:
        super().__init__()
        self.cost_embedding = nn.Conv2d(1, hidden, 7, stride=cost_stride, padding=3)
        self.appearance_projection = nn.Sequential(
            nn.Conv2d(dim, hidden, 3, stride=cost_stride, padding=1), nn.ReLU()
        )
        self.text_projection = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU())
        self.layers = nn.ModuleList(
            AggregationLayer(
                hidden=hidden, heads=heads, window=window, padding_length=padding_length
            )
            for _ in range(layers)
        )

    def forward(
        self,
        cost: Float[Tensor, "B T H W"],
        patch_features: Float[Tensor, "B D H W"],
        text_features: Float[Tensor, "T D"],
        *,
        class_pooling: int = 1,
        class_chunk: int | None = None,
    ) -> Maps:
        """The refined cost of each text, embedded.

        Args:
            cost: cosine of each patch and each text.
            patch_features: not normalised, as they guide the spatial aggregation.
            text_features: of length one; they guide the class aggregation.
            class_pooling: side of the square of cells that share one class attention.
            class_chunk: texts worked on at a time; None for all. The result is the same.
        """
        x = in_chunks(self.embed, class_chunk, cost)
        appearance = rearrange(self.appearance_projection(patch_features), "B C h w -> B h w C")
        texts = self.text_projection(text_features)
        for layer in self.layers:
            x = layer(x, appearance, texts, class_pooling=class_pooling, class_chunk=class_chunk)
        return x

    def embed(self, cost: Float[Tensor, "B T H W"]) -> Maps:
        """The cost of each text by itself, embedded by one convolution."""
        embedded = self.cost_embedding(rearrange(cost, "B T H W -> (B T) 1 H W"))
        return rearrange(embedded, "(B T) C h w -> B T h w C", B=len(cost)).contiguous()


class AggregationLayer(nn.Module):
    """Spatial aggregation, then class aggregation."""

    def __init__(self, *, hidden: int, heads: int, window: int, padding_length: int | None) -> None:
        super().__init__()
        self.spatial = SpatialAggregation(hidden=hidden, heads=heads, window=window)
        self.classes = ClassAggregation(hidden=hidden, heads=heads, padding_length=padding_length)

    def forward(
        self,
        x: Maps,
        appearance: Float[Tensor, "B h w C"],
        texts: Float[Tensor, "T C"],
        *,
        class_pooling: int,
        class_chunk: int | None,
    ) -> Maps:
        """Refined maps; without gradients and in chunks they take the place of ``x``."""
        x = self.spatial(x, appearance, class_chunk=class_chunk, reuse=True)
        return self.classes(x, texts, pooling=class_pooling, class_chunk=class_chunk, reuse=True)
