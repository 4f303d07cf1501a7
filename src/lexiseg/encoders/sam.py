"""SAM (Kirillov et al., ICCV 2023) behind its image encoder: prompts and an image become masks.

points, boxes, masks ─ PromptEncoder ─┬─ sparse tokens ─┬─ two-way transformer ─ MaskDecoder ─ masks
(sam_prompts.py)                      └─ dense prompt ──┤  (sam_transformer.py)
image embedding ────────────────────────────────────────┘

Letters: B prompts of one image, M masks, D channels, h w cells of the image embedding.
"""

from itertools import pairwise

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.sam_prompts import PromptEncoder
from lexiseg.encoders.sam_transformer import TwoWayTransformer
from lexiseg.layers.blocks import LayerNorm2d

MASKS = 4  # the first is the answer to an unambiguous prompt


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
