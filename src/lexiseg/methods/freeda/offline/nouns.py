"""Which words of a caption become prototypes: those that are in a list of names.

The authors did not publish their choice of nouns. Ours needs no tagger and no download: the names
of the bundled class lists and some for people, in the singular or a plural, the longest first.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from lexiseg.prompts import check_name, standard_list
from lexiseg.vocabularies import list_names

PEOPLE = (
    *("man", "woman", "boy", "girl", "child", "baby", "kid", "lady", "guy", "toddler"),
    *("player", "skier", "surfer", "skateboarder", "snowboarder", "chef", "people"),
)
# In a sentence these are verbs, colours or places more often than the things that the lists mean.
AMBIGUOUS = frozenset(
    (
        *("aerial", "block", "board", "can", "case", "clip", "control", "cover", "cross", "drop"),
        *("fly", "front", "goal", "individual", "land", "lift", "light", "line", "lock"),
        *("machine", "mill", "model", "orange", "pack", "pitch", "plug", "post", "remote", "ring"),
        *("roll", "route", "saw", "scale", "score", "side", "skip", "spray", "stage", "staging"),
        *("stands", "step", "steps", "swing", "switch", "target", "unknown", "watch", "well"),
    )
)
IRREGULAR = {
    **{"men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose"},
    **{"feet": "foot", "teeth": "tooth", "knives": "knife", "leaves": "leaf", "shelves": "shelf"},
    **{"wolves": "wolf", "loaves": "loaf", "scarves": "scarf", "oxen": "ox"},
}
_WORDS = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


@dataclass(frozen=True)
class Noun:
    """A word of a caption.

    Attributes:
        name: as it stands in the list; what the prototype is of.
        surface: as it stands in the caption, lower-cased; its pixels are looked for.
    """

    name: str
    surface: str


class Nouns:
    """A list of names, and finding them in captions.

    Args:
        names: words, or several words with spaces between; letters and hyphens.

    Raises:
        ValueError: there is none, or one has other characters.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[tuple[str, ...], str] = {}
        for name in names:
            check_name(name, kind="word")
            words = name.lower().split()
            if not words or not all(_WORDS.fullmatch(word) for word in words):
                raise ValueError(f"the word {name!r} came; words have letters and hyphens only")
            self._names.setdefault(tuple(words), " ".join(words))
        if not self._names:
            raise ValueError("the list of words is empty; give one word a line")
        self._longest = max(map(len, self._names))

    @classmethod
    def bundled(cls) -> "Nouns":
        """Every name of the bundled class lists, without those that a sentence seldom means."""
        listed = chain.from_iterable(
            synonyms for name in list_names() for synonyms in standard_list(name).names
        )
        return cls(sorted({*PEOPLE, *map(str.lower, listed)} - AMBIGUOUS))

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted(self._names.values()))

    def find(self, caption: str) -> list[Noun]:
        """The names in a caption, each once, in the order of their first occurrence.

        A word counts for the longest name that it is a part of: "traffic light" is no light.
        """
        words = [word.lower() for word in _WORDS.findall(caption)]
        found: dict[str, Noun] = {}
        start = 0
        while start < len(words):
            noun = next(self._beginning_at(words, start), None)
            if noun is not None:
                found.setdefault(noun.name, noun)
            start += len(noun.surface.split()) if noun else 1
        return list(found.values())

    def _beginning_at(self, words: list[str], start: int) -> Iterator[Noun]:
        """The names that begin with a word of a caption, the longest first."""
        for length in range(min(self._longest, len(words) - start), 0, -1):
            surface = words[start : start + length]
            for last in _singulars(surface[-1]):
                name = self._names.get((*surface[:-1], last))
                if name is not None:
                    yield Noun(name, " ".join(surface))


def _singulars(word: str) -> Iterator[str]:
    """The word itself, and what it may be the plural of."""
    yield word
    if word in IRREGULAR:
        yield IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        yield word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        yield word[:-2]
    if word.endswith("s") and not word.endswith("ss"):
        yield word[:-1]
