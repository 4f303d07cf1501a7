"""What a prototype is found by: text features of its word.

The authors' project page says that the key is the word in its textual context; the formula is not
published. Ours is the word's own tokens in the caption; two others are here to compare with.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

KeyKind = Literal["context", "template", "caption"]
KEY_KINDS: tuple[KeyKind, ...] = get_args(KeyKind)
_EPSILON = 1e-6  # of the released code's normalisation


def key_kind(name: str) -> KeyKind:
    """The kind of keys that has this name.

    Raises:
        ValueError: there is none.
    """
    found = next((kind for kind in KEY_KINDS if kind == name), None)
    if found is None:
        raise ValueError(f"key {name!r}; the keys are {', '.join(KEY_KINDS)}")
    return found


def context_key(
    token_features: Float[Tensor, "L D"], positions: Sequence[int]
) -> Float[Tensor, " D"]:
    """The direction of the mean of a word's tokens in its caption.

    Args:
        token_features: of every token of the caption, start included, in the joint space.
        positions: rows of the word: all its pieces at all its occurrences.

    Raises:
        ValueError: a position lies behind the last token.
    """
    if not positions or max(positions) >= len(token_features):
        raise ValueError(
            f"positions {list(positions)} came with {len(token_features)} tokens; the word must "
            "lie in the part of the caption that the text tower reads"
        )
    return F.normalize(token_features[list(positions)].mean(dim=0), dim=-1, eps=_EPSILON)


def template_key(prompt_features: Float[Tensor, "P D"]) -> Float[Tensor, " D"]:
    """The direction of the mean of a word's prompts, a prompt for each template.

    The features come as the text tower gives them: the released code averages before it normalises.
    """
    return F.normalize(prompt_features.mean(dim=0), dim=-1, eps=_EPSILON)


def caption_key(caption_feature: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
    """The direction of the caption as a whole; all its words share it."""
    return F.normalize(caption_feature, dim=-1, eps=_EPSILON)
