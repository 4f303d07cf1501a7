"""CLIP's tokenizer as tensors; ``byte_pairs.py`` has its rules and its vocabulary."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from lexiseg.encoders.byte_pairs import token_rows


def tokenize(
    texts: Sequence[str], *, context_length: int = 77, truncate: bool = False
) -> Int[Tensor, "P L"]:
    """Ids of sentences between start and end, zeros behind, ``context_length`` to a row.

    Args:
        texts: the sentences.
        context_length: columns of the result.
        truncate: cut sentences that are too long, and put the end in their last column.

    Raises:
        TypeError: one string instead of a list.
        ValueError: no sentence, or one that is too long without ``truncate``.
    """
    rows = token_rows(texts, context_length=context_length, truncate=truncate)
    table = torch.zeros(len(rows), context_length, dtype=torch.long)
    for place, ids in zip(table, rows, strict=True):
        place[: len(ids)] = torch.tensor(ids)
    return table
