"""Losses with two or more users: functions of a model's logits and of label maps."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Integer, Shaped
from torch import Tensor

from lexiseg.data.semantic import BACKGROUND, IGNORE_INDEX


def masked_bce(
    logits: Float[Tensor, "B T h w"],
    labels: Integer[Tensor, "B H W"],
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """Binary cross-entropy of each text by itself, over the labelled pixels.

    Args:
        logits: brought to the size of ``labels`` first.
        labels: index of the text that a pixel shows, or ``ignore_index``.
        ignore_index: pixels of this label say nothing.

    Returns:
        Mean over labelled pixels and texts; 0 where no pixel is labelled.

    Raises:
        ValueError: a label lies outside the texts.
    """
    logits, chosen, labelled = _with_labels(logits, labels, ignore_index)
    total = (F.softplus(logits) * labelled[:, None]).sum() - chosen.sum()
    return total / (labelled.sum() * logits.shape[1]).clamp(min=1)


def published_bce(
    logits: Float[Tensor, "B T h w"],
    labels: Integer[Tensor, "B H W"],
    ignore_index: int = IGNORE_INDEX,
) -> Float[Tensor, ""]:
    """As :func:`masked_bce`, with ignored pixels as examples of no text at all.

    That is how the authors' code of CAT-Seg and its followers trains.
    """
    logits, chosen, _ = _with_labels(logits, labels, ignore_index)
    return F.softplus(logits).mean() - chosen.sum() / logits.numel()


def dice_loss(scores: Float[Tensor, "N H W"], masks: Shaped[Tensor, "N H W"]) -> Float[Tensor, ""]:
    """One minus the Dice overlap of scores, 0 to 1, and their masks, on average over the pairs.

    V-Net (Milletari et al., 3DV 2016), equation in section 3, without squares. Cross-entropy counts
    pixels, this counts regions.
    """
    both = (scores * masks).sum(dim=(-2, -1))
    either = scores.sum(dim=(-2, -1)) + masks.sum(dim=(-2, -1))
    return (1 - 2 * both / either.clamp(min=1e-6)).mean()


def weighted_cross_entropy(
    logits: Float[Tensor, "T _ _"],
    labels: Int[Tensor, "h w"],
    names: Sequence[str],
    background_weight: float,
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """Cross-entropy over the labelled pixels; 0 where there are none.

    "background" is what nobody labelled, which may be anything, so it counts less.
    """
    if bool((labels == ignore_index).all()):
        return logits.sum() * 0
    weights = name_weights(labels[labels != ignore_index], len(names))
    if BACKGROUND in names:
        weights[list(names).index(BACKGROUND)] *= background_weight
    logits = F.interpolate(logits[None], size=labels.shape, mode="bilinear")
    return F.cross_entropy(logits, labels[None], weights, ignore_index=ignore_index)


def overlap_loss(
    logits: Float[Tensor, "T _ _"],
    labels: Int[Tensor, "h w"],
    names: Sequence[str],
    ignore_index: int = IGNORE_INDEX,
) -> Tensor:
    """One minus the Dice overlap of each name on the picture, on average; 0 where there is none.

    It counts regions, as mIoU does (:func:`dice_loss`). "background" is no
    region.
    """
    known = labels != ignore_index
    shown = [i for i in labels[known].unique().tolist() if names[i] != BACKGROUND]
    if not shown:
        return logits.sum() * 0
    logits = F.interpolate(logits[None], size=labels.shape, mode="bilinear")[0]
    scores = logits.softmax(dim=0)[shown] * known
    truth = labels == torch.tensor(shown, device=labels.device)[:, None, None]
    return dice_loss(scores, truth)


def name_weights(labels: Int[Tensor, " N"], count: int) -> Float[Tensor, " T"]:
    """Weights that let a small region speak: one over the fourth root of its share."""
    pixels = torch.bincount(labels, minlength=count).float()
    share = pixels / pixels.sum().clamp(min=1)
    return share.clamp(min=1e-3).pow(-0.25)


def image_label_loss(logits: Float[Tensor, "T h w"], image_label: int) -> Tensor:
    """Cross-entropy of the whole picture: each name by a soft maximum over the patches."""
    target = torch.tensor([image_label], device=logits.device)
    return F.cross_entropy(soft_maximum(logits)[None], target)


def soft_maximum(maps: Float[Tensor, "*S h w"]) -> Float[Tensor, "*S"]:
    """The logarithm of the mean of each map's exponentials."""
    return maps.flatten(-2).logsumexp(dim=-1) - torch.tensor(float(maps.shape[-2:].numel())).log()


def _with_labels(
    logits: Float[Tensor, "B T h w"], labels: Integer[Tensor, "B H W"], ignore_index: int
) -> tuple[Float[Tensor, "B T H W"], Float[Tensor, "B H W"], Float[Tensor, "B H W"]]:
    """Logits at the labels' size, those of each pixel's own text (else 0), and who is labelled.

    Cross-entropy with a logit x and a target y is softplus(x) - x y, so that the targets of all
    texts need not be written out.
    """
    labelled = labels != ignore_index
    outside = labels[labelled & ((labels < 0) | (labels >= logits.shape[1]))]
    if len(outside):
        raise ValueError(
            f"label {int(outside[0])} came with {logits.shape[1]} texts; labels go from 0 to "
            f"{logits.shape[1] - 1}, and {ignore_index} for pixels to ignore"
        )
    if logits.shape[-2:] != labels.shape[-2:]:
        size = labels.shape[-2:]
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    index = labels.masked_fill(~labelled, 0).long()
    chosen = logits.gather(1, index[:, None])[:, 0] * labelled
    return logits, chosen, labelled.to(logits.dtype)
