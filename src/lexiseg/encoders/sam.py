"""SAM (Kirillov et al., ICCV 2023) behind its image encoder: prompts and an image become masks.

points, boxes, masks ─ PromptEncoder ─┬─ sparse tokens ─┬─ two-way transformer ─ MaskDecoder ─ masks
image embedding ──────────────────────┴─ dense prompt ──┘  (sam_transformer.py)

Letters: B prompts of one image, P points, M masks, D channels, h w cells of the image embedding.
"""

import math
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.sam_transformer import TwoWayTransformer

BACKGROUND, FOREGROUND = 0, 1  # labels of points, and rows of ``kinds``; 2 and 3 are box corners
NO_POINT = -1
MASKS = 4  # the first is the answer to an unambiguous prompt
MASK_STRIDE = 4  # a mask prompt and a low-resolution mask are so many times finer than the cells


class PromptEncoder(nn.Module):
    """Turns points, boxes and masks into tokens and one dense map (SAM, section 3).

    Args:
        dim: channels.
        mask_channels: of the mask's convolutions before the last.

    Attributes:
        frequencies: directions and lengths of the waves of the position code; a buffer that belongs
            to the weights.
    """

    frequencies: Float[Tensor, "2 F"]

    def __init__(self, dim: int = 256, *, mask_channels: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, dim // 2))
        self.kinds = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point = nn.Embedding(1, dim)
        self.no_mask = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, 2, stride=2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, 2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, 1),
        )

    def forward(
        self,
        *,
        points: Float[Tensor, "B P 2"] | None = None,
        labels: Float[Tensor, "B P"] | None = None,
        boxes: Float[Tensor, "B 4"] | None = None,
        masks: Float[Tensor, "B 1 _ _"] | None = None,
        input_size: tuple[int, int],
        grid: tuple[int, int],
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B D h w"]]:
        """Sparse tokens (points, then box corners) and the dense prompt.

        Args:
            points: x and y in pixels of the image that SAM sees.
            labels: of the points: 1 on the object, 0 beside it, -1 no point at all.
            boxes: x0, y0, x1, y1 in the same pixels.
            masks: logits, four times as fine as ``grid``.
            input_size: of the image that SAM sees.
            grid: of the image embedding.

        Raises:
            ValueError: there is no prompt, or points and labels do not come together.
        """
        given = [part for part in (points, boxes, masks) if part is not None]
        if not given or (points is None) != (labels is None):
            raise ValueError("give points with labels, boxes, masks, or several of them")
        tokens = [self.no_mask.weight.new_zeros(len(given[0]), 0, self.no_mask.embedding_dim)]
        if points is not None and labels is not None:
            if boxes is None:  # as SAM was trained: a box's place is taken by a point that is none
                points, labels = F.pad(points, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=NO_POINT)
            tokens.append(self.encode_points(points, labels, input_size))
        if boxes is not None:
            tokens.append(self.encode_boxes(boxes, input_size))
        dense = self.without_mask(grid) if masks is None else self.mask_downscaling(masks)
        return torch.cat(tokens, dim=1), dense.expand(len(given[0]), -1, -1, -1)

    def encode_points(
        self,
        points: Float[Tensor, "B P 2"],
        labels: Float[Tensor, "B P"],
        input_size: tuple[int, int],
    ) -> Float[Tensor, "B P D"]:
        """A token a point; the position of a point that is none is erased."""
        is_none = (labels == NO_POINT)[..., None]
        codes = torch.where(
            is_none, self.not_a_point.weight, self.encode_positions(points, input_size)
        )
        for label in (BACKGROUND, FOREGROUND):
            codes = codes + (labels == label)[..., None] * self._kind(label)
        return codes

    def encode_boxes(
        self, boxes: Float[Tensor, "B 4"], input_size: tuple[int, int]
    ) -> Float[Tensor, "B 2 D"]:
        """A token for each of the corners, upper left and lower right."""
        corners = self.encode_positions(
            rearrange(boxes, "B (corner xy) -> B corner xy", xy=2), input_size
        )
        return corners + torch.cat([self._kind(2), self._kind(3)])

    def encode_positions(
        self, points: Float[Tensor, "*B 2"], input_size: tuple[int, int]
    ) -> Float[Tensor, "*B D"]:
        """The position code of the centres of pixels x, y."""
        height, width = input_size
        extent = torch.tensor([width, height], dtype=points.dtype, device=points.device)
        return self._waves((points + 0.5) / extent)

    def dense_positions(self, grid: tuple[int, int]) -> Float[Tensor, "D h w"]:
        """The position code of every cell's centre."""
        height, width = grid
        y = (torch.arange(height).to(self.frequencies) + 0.5) / height
        x = (torch.arange(width).to(self.frequencies) + 0.5) / width
        places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return rearrange(self._waves(places), "h w D -> D h w")

    def without_mask(self, grid: tuple[int, int]) -> Float[Tensor, "1 D h w"]:
        """The dense prompt of no mask."""
        return repeat(self.no_mask.weight, "1 D -> 1 D h w", h=grid[0], w=grid[1])

    def _kind(self, index: int) -> Float[Tensor, "1 D"]:
        return cast(nn.Embedding, self.kinds[index]).weight

    def _waves(self, places: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B D"]:
        """Random Fourier features (Tancik et al., NeurIPS 2020) of places between 0 and 1."""
        phases = 2 * math.pi * ((2 * places - 1) @ self.frequencies)
        return torch.cat([phases.sin(), phases.cos()], dim=-1)


class MaskDecoder(nn.Module):
    """Answers prompts with masks and the IoU that it expects of each (SAM, figure 14).

    Args:
        transformer: two-way.
        dim: its channels.
        iou_hidden: width of the MLP that tells the expected IoU.
    """

    def __init__(
        self, *, transformer: TwoWayTransformer, dim: int = 256, iou_hidden: int = 256
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(MASKS, dim)
        self.upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.hypernetworks = nn.ModuleList(ReLUMLP((dim, dim, dim, dim // 8)) for _ in range(MASKS))
        self.iou_head = ReLUMLP((dim, iou_hidden, iou_hidden, MASKS))

    def forward(
        self,
        image: Float[Tensor, "1 D h w"],
        positions: Float[Tensor, "D h w"],
        sparse: Float[Tensor, "B L D"],
        dense: Float[Tensor, "B D h w"],
        *,
        several: bool,
    ) -> tuple[Float[Tensor, "B M H W"], Float[Tensor, "B M"]]:
        """Logits of masks, four times as fine as the cells, and the expected IoU of each.

        Args:
            image: embedding of one image, to which all prompts belong.
            positions: the prompt encoder's dense code.
            sparse: tokens of the prompts.
            dense: their dense map.
            several: True for the three masks for ambiguous prompts, False for the single one.
        """
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([repeat(own, "L D -> B L D", B=len(sparse)), sparse], dim=1)
        tokens, cells = self.transformer(
            tokens,
            rearrange(image + dense, "B D h w -> B (h w) D"),
            rearrange(positions, "D h w -> (h w) D"),
        )
        fine = self.upscaling(rearrange(cells, "B (h w) D -> B D h w", h=image.shape[2]))
        of_masks = [net(tokens[:, 1 + i]) for i, net in enumerate(self.hypernetworks)]
        masks = torch.einsum("bmd,bdhw->bmhw", torch.stack(of_masks, dim=1), fine)
        wanted = slice(1, None) if several else slice(0, 1)
        return masks[:, wanted], self.iou_head(tokens[:, 0])[:, wanted]


class SAM(nn.Module):
    """SAM without its image encoder."""

    def __init__(self, *, prompts: PromptEncoder, decoder: MaskDecoder) -> None:
        super().__init__()
        self.prompts = prompts
        self.decoder = decoder


def build_sam() -> SAM:
    """Prompt encoder and mask decoder of all three published sizes, untrained: 4 million."""
    return SAM(prompts=PromptEncoder(), decoder=MaskDecoder(transformer=TwoWayTransformer()))


def masks_to_image(
    masks: Float[Tensor, "B M _ _"],
    *,
    input_side: int,
    resized: tuple[int, int],
    original: tuple[int, int],
) -> Float[Tensor, "B M H W"]:
    """Low-resolution logits on the pixels of the original image; a pixel above 0 belongs.

    Args:
        masks: of the padded square image.
        input_side: side of that square.
        resized: the part of it that is no padding.
        original: size of the image before it was resized.
    """
    square = F.interpolate(masks, (input_side, input_side), mode="bilinear", align_corners=False)
    inside = square[..., : resized[0], : resized[1]]
    return F.interpolate(inside, original, mode="bilinear", align_corners=False)


class LayerNorm2d(nn.Module):
    """Layer norm over the channels of each place of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """The map with every place of mean 0 and variance 1, then scaled and moved."""
        normed = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-6)
        return normed.movedim(-1, 1)


class ReLUMLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Each vector transformed by itself."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)
