"""SegCLIP's losses, each a function of what the model gives.

Letters: B images of this process, M images of all, N patches, G groups, D channels of the joint
space, V numbers that a patch shows.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor


def contrastive_loss(
    images: Float[Tensor, "B D"],
    texts: Float[Tensor, "B D"],
    scale: Tensor,
    *,
    all_images: Float[Tensor, "M D"] | None = None,
    all_texts: Float[Tensor, "M D"] | None = None,
    first: int = 0,
    left_out: Bool[Tensor, "B M"] | None = None,
) -> Float[Tensor, ""]:
    """Each image finds its text and each text its image (CLIP's loss; the paper's equation 4).

    Args:
        images: of length one.
        texts: of length one, each of the image in its row.
        scale: factor of the cosines.
        all_images: those of all processes, if there are others.
        all_texts: likewise.
        first: row of the first of ``images`` among all.
        left_out: True where an image (row) and a text (column) of one process are not compared.
    """
    all_images = images if all_images is None else all_images
    all_texts = texts if all_texts is None else all_texts
    own = torch.arange(first, first + len(images), device=images.device)
    of_images, of_texts = scale * images @ all_texts.T, scale * texts @ all_images.T
    if left_out is not None:
        of_images = of_images.masked_fill(left_out, -torch.inf)
        of_texts = of_texts.masked_fill(left_out.T, -torch.inf)
    return (F.cross_entropy(of_images, own) + F.cross_entropy(of_texts, own)) / 2


def superpixel_loss(
    logits: Float[Tensor, "B G N"], superpixels: Int[Tensor, "B N"]
) -> Float[Tensor, ""]:
    """How far the groups' shares in a patch are from their mean over its superpixel.

    The mean of both Kullback-Leibler divergences, over patches (the paper's equation 7, on the
    softmax of the logits).

    Args:
        logits: of patches and centres, noise included where it takes part.
        superpixels: id of each patch.
    """
    shares = rearrange(logits.softmax(dim=1), "B G N -> B N G")
    log_means = superpixel_means(shares, superpixels).clamp(min=1e-8).log()
    log_shares = rearrange(logits.log_softmax(dim=1), "B G N -> B N G")
    return _divergence(log_shares, log_means) / log_shares[..., 0].numel()


def published_superpixel_loss(
    assignment: Float[Tensor, "B G N"], superpixels: Int[Tensor, "B N"]
) -> Float[Tensor, ""]:
    """As :func:`superpixel_loss`, on the softmax of the ones and zeros of the hard assignment.

    That is the authors' code: the divergence is at most about 0.01, which is the mean over patches
    and groups.
    """
    hard = rearrange(assignment, "B G N -> B N G")
    log_means = superpixel_means(hard, superpixels).log_softmax(dim=2)
    return _divergence(hard.log_softmax(dim=2), log_means) / hard.numel()


def superpixel_means(
    shares: Float[Tensor, "B N G"], superpixels: Int[Tensor, "B N"]
) -> Float[Tensor, "B N G"]:
    """Of each patch, the mean of the patches of its superpixel."""
    same = (superpixels[:, :, None] == superpixels[:, None, :]).to(shares)
    return (same @ shares) / same.sum(dim=2, keepdim=True)


def reconstruction_loss(
    predicted: Float[Tensor, "B N V"], shown: Float[Tensor, "B N V"], hidden: Bool[Tensor, "B N"]
) -> Float[Tensor, ""]:
    """Mean squared error over the patches that are hidden (the paper's equation 6)."""
    errors = (predicted - shown).square().mean(dim=2)
    return (errors * hidden).sum() / hidden.sum().clamp(min=1)


def _divergence(first: Float[Tensor, "B N G"], second: Float[Tensor, "B N G"]) -> Float[Tensor, ""]:
    """Half the sum of both Kullback-Leibler divergences of two logarithms of probabilities."""
    return ((first.exp() - second.exp()) * (first - second)).sum() / 2
