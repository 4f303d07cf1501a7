"""BERT's WordPiece tokenizer, lower-cased, as MiniLM-L6 was trained with (Wu et al., 2016).

Without torch.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np
from jaxtyping import Int

LONGEST_WORD = 100


class WordPiece:
    """Text to ids: clean, lower-case, strip accents, split off punctuation, longest match first."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.ids = {piece: index for index, piece in enumerate(vocabulary)}
        self.pad, self.unknown, self.start, self.end = (
            self.ids[piece] for piece in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
        )

    def __call__(self, texts: Sequence[str], *, context_length: int) -> Int[np.ndarray, "P L"]:
        """Ids of each text, cut to ``context_length`` and padded to the longest."""
        rows = []
        for text in texts:
            ids = [piece for word in split_words(text) for piece in self.pieces(word)]
            rows.append([self.start, *ids[: context_length - 2], self.end])
        longest = max(map(len, rows))
        return np.array([row + [self.pad] * (longest - len(row)) for row in rows])

    def pieces(self, word: str) -> list[int]:
        """Ids of the longest known pieces of a word, or the one id for an unknown word."""
        if len(word) > LONGEST_WORD:
            return [self.unknown]
        found: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in self.ids:
                    found.append(self.ids[piece])
                    start = end
                    break
            else:
                return [self.unknown]
        return found


@lru_cache(maxsize=1)
def bert_wordpiece() -> WordPiece:
    """The tokenizer with the bundled vocabulary of ``bert-base-uncased``."""
    vocabulary = files("lexiseg") / "assets" / "wordpiece" / "vocab.txt"
    return WordPiece(vocabulary.read_text(encoding="utf-8").splitlines())


def split_words(text: str) -> list[str]:
    """Words and punctuation marks of a text, lower-cased and without accents."""
    characters = []
    for character in text:
        if _is_control(character):
            continue
        if character.isspace():
            characters.append(" ")
        elif _is_chinese(character):
            characters.append(f" {character} ")
        else:
            characters.append(character)
    decomposed = unicodedata.normalize("NFD", "".join(characters).lower())
    bare = (c for c in decomposed if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if _is_punctuation(c) else c for c in bare).split()


def _is_control(character: str) -> bool:
    if character in "\t\n\r":
        return False
    code = ord(character)
    return code in (0, 0xFFFD) or unicodedata.category(character).startswith("C")


def _is_punctuation(character: str) -> bool:
    code = ord(character)
    ascii_mark = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
    return ascii_mark or unicodedata.category(character).startswith("P")


def _is_chinese(character: str) -> bool:
    code = ord(character)
    blocks = (
        (0x4E00, 0x9FFF),
        (0x3400, 0x4DBF),
        (0x20000, 0x2A6DF),
        (0x2A700, 0x2B73F),
        (0x2B740, 0x2B81F),
        (0x2B820, 0x2CEAF),
        (0xF900, 0xFAFF),
        (0x2F800, 0x2FA1F),
    )
    return any(low <= code <= high for low, high in blocks)
