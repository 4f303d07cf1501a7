"""Channels-last maps of each text, class chunks, and layers on ``concat(x, guidance)``."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lexiseg.layers.linear import linear

Maps = Float[Tensor, "B T h w C"]  # channels-last: a linear layer reads it as it lies


def cost_part(layer: nn.Linear, x: Float[Tensor, "*cells C"]) -> Float[Tensor, "*cells K"]:
    """What ``layer``, made for ``concat(x, guidance)``, makes of x, bias included."""
    return linear(x, layer.weight[:, : x.shape[-1]], layer.bias)


def guidance_part(
    layer: nn.Linear, guidance: Float[Tensor, "*cells C"]
) -> Float[Tensor, "*cells K"]:
    """What ``layer``, made for ``concat(x, guidance)``, makes of the guidance, without bias."""
    return linear(guidance, layer.weight[:, -guidance.shape[-1] :])


def in_chunks(
    run: Callable[..., Tensor],
    class_chunk: int | None,
    x: Float[Tensor, "B T *rest"],
    *of_texts: Tensor,
    recompute: bool = False,
    reuse: bool = False,
) -> Float[Tensor, "B T *out"]:
    """``run`` over a few texts at a time, where it treats each by itself.

    Args:
        run: gets the same texts of all that follows.
        class_chunk: texts at a time; None for all.
        x: split along its second axis.
        of_texts: split along their first.
        recompute: as in :func:`each_chunk`.
        reuse: where no gradients are wanted, put results of x's own shape in its place: the caller
            must not need it any more.

    Raises:
        ValueError: ``class_chunk`` is below 1.
    """
    texts = x.shape[1]
    results = each_chunk(run, class_chunk, x, *of_texts, recompute=recompute)
    if class_chunk is None or class_chunk >= texts:
        return next(results)
    if torch.is_grad_enabled():
        return torch.cat(list(results), dim=1)
    # Filled as results come, so that they never lie there twice.
    whole = x if reuse else None
    for start, result in zip(range(0, texts, class_chunk), results, strict=True):
        if whole is None:
            whole = result.new_empty(result.shape[0], texts, *result.shape[2:])
        whole[:, start : start + class_chunk] = result
    assert whole is not None
    return whole


def each_chunk(
    run: Callable[..., Tensor],
    class_chunk: int | None,
    x: Float[Tensor, "B T *rest"],
    *of_texts: Tensor,
    recompute: bool = False,
) -> Iterator[Tensor]:
    """What ``run`` makes of a few texts after the other.

    Args:
        run: gets the same texts of all that follows.
        class_chunk: texts at a time; None for all.
        x: split along its second axis.
        of_texts: split along their first.
        recompute: where gradients are wanted and there are several chunks, run each again in the
            backward pass instead of keeping what it computed.

    Raises:
        ValueError: ``class_chunk`` is below 1.
    """
    texts = x.shape[1]
    if class_chunk is not None and class_chunk < 1:
        raise ValueError(f"class_chunk {class_chunk} came; it must be at least 1, or None for all")
    if class_chunk is None or class_chunk >= texts:
        yield run(x, *of_texts)
        return
    parts = [x.split(class_chunk, dim=1), *(part.split(class_chunk) for part in of_texts)]
    for of_chunk in zip(*parts, strict=True):
        if recompute and torch.is_grad_enabled():
            yield checkpoint(run, *of_chunk, use_reentrant=False, preserve_rng_state=False)
        else:
            yield run(*of_chunk)
