"""Sentences as CRIS reads them: one state and all words of each.

Letters beyond the library's: S width of a sentence's state, C width of a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from lexiseg.encoders.base import TextFeatures
from lexiseg.encoders.clip_text import TextTransformer
from lexiseg.encoders.tokenizer import tokenize
from lexiseg.methods.base import Texts


@dataclass(frozen=True, kw_only=True)
class Sentences(Texts):
    """Expressions as CRIS sees them; an expression may be said in several sentences.

    Attributes:
        states: one vector for each sentence, of any length.
        words: one vector for each token of each sentence.
        is_word: True where a token may be looked at.
        counts: sentences of each expression.
    """

    states: Float[Tensor, "P S"]
    words: Float[Tensor, "P L C"]
    is_word: Bool[Tensor, "P L"]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, texts: Texts) -> "Sentences":
        """The same; a TypeError where it is something else."""
        if not isinstance(texts, Sentences):
            raise TypeError(
                f"texts came as {type(texts).__name__}; CRIS needs the words too: give what its "
                "own encode_texts made"
            )
        return texts


def read_words(
    tower: TextTransformer, prompts: Sequence[str], *, length: int | None, hide_id_zero: bool
) -> TextFeatures:
    """States and words of sentences by CLIP's text tower.

    Args:
        tower: with weights.
        prompts: the sentences.
        length: so many tokens are read, the last one the end; None reads all.
        hide_id_zero: whether tokens of id 0 are no words, as published.

    Raises:
        ValueError: without ``length``, a sentence has more tokens than the tower has positions.
    """
    context = length or tower.context_length
    ids = tokenize(prompts, context_length=context, truncate=length is not None)
    ids = ids.to(tower.position_embedding.device)
    features = tower(ids)
    if not hide_id_zero:
        return features
    symbols = ids[:, : features.words.shape[1]] != 0
    return replace(features, is_word=features.is_word & symbols)
