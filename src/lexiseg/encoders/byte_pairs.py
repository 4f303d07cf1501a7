"""CLIP's tokenizer: byte-pair encoding of cleaned, lower-cased text.

The vocabulary has 49,408 ids: 256 bytes, the same 256 bytes as the end of a word, 48,894 merges,
start and end. Id 0 is "!" inside a word and padding behind the end. Without torch.
"""

import gzip
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

import ftfy
import regex

START = 49406
END = 49407
SPECIAL = {"<|startoftext|>": START, "<|endoftext|>": END}
WORD_END = "</w>"

# What counts as one word before merging; digits stand alone.
_WORDS = regex.compile(
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of the tokenizer.

    Attributes:
        byte_ids: id of each byte inside a word; 256 more is that byte at the end of a word.
        merges: two ids that stand side by side -> the id that replaces both; the smallest
            replacing id is merged first.
        spelling: the bytes that each id stands for, a word's end as a space.
    """

    byte_ids: tuple[int, ...]
    merges: dict[tuple[int, int], int]
    spelling: tuple[bytes, ...]


def token_rows(
    texts: Sequence[str], *, context_length: int = 77, truncate: bool = False
) -> list[list[int]]:
    """Ids of sentences between start and end, each row as long as its sentence.

    Args:
        texts: the sentences.
        context_length: most ids of a row.
        truncate: cut sentences that are too long, and put the end in their last place.

    Raises:
        TypeError: one string instead of a list.
        ValueError: no sentence, or one that is too long without ``truncate``.
    """
    if isinstance(texts, str):
        raise TypeError(f"one string came, {texts!r}; give a list of strings")
    if not texts:
        raise ValueError("no sentences came; give at least one")
    rows = []
    for text in texts:
        ids = [START, *encode(text), END]
        if len(ids) > context_length:
            if not truncate:
                shown = text if len(text) <= 60 else text[:60] + "..."
                raise ValueError(
                    f"{shown!r} is {len(ids)} tokens long, at most {context_length} are allowed; "
                    "shorten it or pass truncate=True"
                )
            ids = [*ids[: context_length - 1], END]
        rows.append(ids)
    return rows


def encode(text: str) -> list[int]:
    """Ids of a text, without start and end.

    "<|startoftext|>" and "<|endoftext|>" inside the text become the special ids, as in CLIP.
    """
    return [number for word in _WORDS.findall(_clean(text)) for number in _word_ids(word)]


def decode(ids: Iterable[int]) -> str:
    """The text of ids, with a space after each word; bytes that are no UTF-8 become U+FFFD."""
    spelling = vocabulary().spelling
    return b"".join(spelling[number] for number in ids).decode("utf-8", errors="replace")


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """The vocabulary, read from the package's assets at the first call."""
    stand_ins = _byte_stand_ins()
    order = sorted(range(256), key=lambda byte: (ord(stand_ins[byte]) != byte, byte))
    ids: dict[str, int] = {}
    spelling: list[bytes] = []
    for suffix, ending in (("", b""), (WORD_END, b" ")):
        for byte in order:
            ids[stand_ins[byte] + suffix] = len(spelling)
            spelling.append(bytes([byte]) + ending)
    merges: dict[tuple[int, int], int] = {}
    packed = files("lexiseg").joinpath("assets", "clip_bpe", "merges.txt.gz").read_bytes()
    for line in gzip.decompress(packed).decode("utf-8").splitlines():
        left, right = line.split()
        pair = ids[left], ids[right]
        merges[pair] = ids[left + right] = len(spelling)
        spelling.append(spelling[pair[0]] + spelling[pair[1]])
    spelling.extend(special.encode() for special in SPECIAL)
    byte_ids = tuple(ids[stand_ins[byte]] for byte in range(256))
    return Vocabulary(byte_ids, merges, tuple(spelling))


@lru_cache(maxsize=1 << 16)
def _word_ids(word: str) -> tuple[int, ...]:
    if word in SPECIAL:
        return (SPECIAL[word],)
    known = vocabulary()
    ids = [known.byte_ids[byte] for byte in word.encode("utf-8")]
    ids[-1] += 256
    while len(ids) > 1:
        candidates = [known.merges[pair] for pair in pairwise(ids) if pair in known.merges]
        if not candidates:
            break
        ids = _merge(ids, min(candidates), known.merges)
    return tuple(ids)


def _merge(ids: list[int], merged: int, merges: dict[tuple[int, int], int]) -> list[int]:
    """Every occurrence of the pair behind ``merged`` replaced, from left to right."""
    result: list[int] = []
    position = 0
    while position < len(ids):
        pair = tuple(ids[position : position + 2])
        if len(pair) == 2 and merges.get(pair) == merged:
            result.append(merged)
            position += 2
        else:
            result.append(ids[position])
            position += 1
    return result


def _clean(text: str) -> str:
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return regex.sub(r"\s+", " ", text.strip()).strip().lower()


def _byte_stand_ins() -> list[str]:
    """The visible character that the merges file writes for each byte."""
    visible = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(b) if b in visible else chr(256 + hidden.index(b)) for b in range(256)]
