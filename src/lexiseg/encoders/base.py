"""What every method may ask of an encoder, whichever it is.

An encoder is an image tower and a text tower that share one embedding space of ``dim`` numbers.
Methods are written against :class:`Encoder`; CLIP and the bundled ``lite`` encoder both follow it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

PROMPTS_AT_ONCE = 256


@dataclass(frozen=True)
class ImageFeatures:
    """What an image tower sees; nothing of it is normalised.

    Attributes:
        pooled: one vector for the whole image, in the joint space.
        patch_features: one vector for each patch, in the joint space.
        intermediates: the layers that were asked for, in that order, each a map of its own width
            and grid.
    """

    pooled: Float[Tensor, "B D"]
    patch_features: Float[Tensor, "B D h w"]
    intermediates: tuple[Float[Tensor, "B _ _ _"], ...] = ()


@dataclass(frozen=True)
class TextFeatures:
    """What a text tower makes of prompts; nothing of it is normalised.

    Attributes:
        pooled: one vector for each prompt, in the joint space.
        words: one vector for each token, in the text tower's own width.
        is_word: True where a token belongs to the prompt, False where it is padding.
    """

    pooled: Float[Tensor, "P D"]
    words: Float[Tensor, "P L C"]
    is_word: Bool[Tensor, "P L"]


@runtime_checkable
class Encoder(Protocol):
    """An image tower and a text tower in one embedding space."""

    dim: int
    logit_scale: nn.Parameter  # logarithm of the factor of a cosine

    def encode_images(
        self, images: Float[Tensor, "B 3 H W"], *, intermediates: Sequence[int] = ()
    ) -> ImageFeatures:
        """Features of normalised images of any size; ``intermediates`` names layers to return."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> TextFeatures:
        """Features of sentences, each taken as it stands."""
        ...


def check_intermediates(wanted: Sequence[int], count: int, *, called: str = "blocks") -> None:
    """Refuses layers that a tower of ``count`` does not have.

    Raises:
        ValueError: there is no such layer.
    """
    unknown = [number for number in wanted if not 0 <= number < count]
    if unknown:
        raise ValueError(f"there are no {called} {unknown}; choose from 0 to {count - 1}")


def encode_labels(encoder: Encoder, prompts: Sequence[Sequence[str]]) -> Float[Tensor, "T D"]:
    """One vector of length one for each label: the mean of its prompts' directions.

    Args:
        encoder: whose text tower reads the prompts.
        prompts: the sentences of each label in turn (synonyms x templates), as many as it has.

    Raises:
        ValueError: there is no label, or a label has no prompt.
    """
    flat, counts = flatten_prompts(prompts)
    features = in_parts(lambda part: encoder.encode_prompts(part).pooled, flat)
    return mean_directions(features, counts)


def in_parts(
    read: Callable[[Sequence[str]], Float[Tensor, "_ D"]], prompts: Sequence[str]
) -> Float[Tensor, "P D"]:
    """What ``read`` makes of many prompts, some at a time: memory does not grow with them."""
    starts = range(0, len(prompts), PROMPTS_AT_ONCE)
    return torch.cat([read(prompts[i : i + PROMPTS_AT_ONCE]) for i in starts])


def flatten_prompts(prompts: Sequence[Sequence[str]]) -> tuple[list[str], list[int]]:
    """The prompts of all labels in a row, and how many each label has.

    Raises:
        ValueError: there is no label, or a label has no prompt.
    """
    counts = [len(of_label) for of_label in prompts]
    if not counts or min(counts) == 0:
        raise ValueError(
            f"{len(counts)} labels came, {counts.count(0)} of them without a prompt; "
            "give at least one label, and at least one prompt for each"
        )
    return [prompt for of_label in prompts for prompt in of_label], counts


def mean_directions(features: Float[Tensor, "P D"], counts: Sequence[int]) -> Float[Tensor, "T D"]:
    """One vector of length one for each label, the mean of the directions of its ``counts``."""
    directions = F.normalize(features, dim=-1).split(list(counts))
    means = torch.stack([of_label.mean(dim=0) for of_label in directions])
    return F.normalize(means, dim=-1)
