"""Labels and their synonyms, the background, and the sentences that a text tower gets to read."""

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lexiseg.registry import unknown
from lexiseg.vocabularies import LIST_ALIASES, list_names, read_list

MAX_NAME_LENGTH = 256

LabelsLike = str | Sequence[str] | Mapping[str, str | Sequence[str]]
BackgroundLike = None | int | float | str | Sequence[str]


@dataclass(frozen=True)
class LabelSet:
    """The labels to look for, in order, each with the names by which it may be called.

    Attributes:
        labels: the user's words, as results show them; no two alike.
        names: of each label, the synonyms that are put into prompts. What a user gives has no name
            twice; published lists do ("crane", the machine and the bird).
    """

    labels: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.names):
            raise ValueError(f"{len(self.labels)} labels came with {len(self.names)} sets of names")
        if not self.labels:
            raise ValueError("no labels came; give at least one, such as 'dog'")
        for label, names in zip(self.labels, self.names, strict=True):
            check_name(label)
            if not names:
                raise ValueError(f"label {label!r} has no names; give at least one")
            for name in names:
                check_name(name)
        _check_unique(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def first_names(self) -> "LabelSet":
        """The same labels, each by its first name alone."""
        return LabelSet(self.labels, tuple(names[:1] for names in self.names))

    @classmethod
    def of(cls, labels: "LabelsLike | LabelSet") -> "LabelSet":
        """The label set that a user means.

        Args:
            labels: a list of labels; a mapping of each label to its synonyms; or a text, which is
                the name of a standard list or labels between commas. A vertical bar separates
                synonyms, the first of which is the label: ``"dog, sofa|couch"``.

        Raises:
            ValueError: a label is empty, too long, twice there, or has control characters.
            TypeError: ``labels`` is something else.
        """
        if isinstance(labels, LabelSet):
            return labels
        if isinstance(labels, str):
            return parse_labels(labels)
        if isinstance(labels, Mapping):
            given = [_split(each) if isinstance(each, str) else each for each in labels.values()]
            names = tuple(tuple(_tidy(name) for name in each) for each in given)
            label_set = cls(tuple(_tidy(label) for label in labels), names)
        elif isinstance(labels, Sequence):
            names = tuple(_split(label) for label in labels)
            label_set = cls(tuple(each[0] for each in names), names)
        else:
            raise TypeError(
                f"labels came as {type(labels).__name__}; give a list of names, a mapping of each "
                "label to its synonyms, a text such as 'dog, sofa|couch', or a standard list's name"
            )
        _check_unique([name for each in names for name in each])
        return label_set


@dataclass(frozen=True)
class Background:
    """When a pixel has none of the labels; with neither attribute set, every pixel has one.

    Attributes:
        names: what competes with the labels for a pixel and, where it wins, leaves it without one.
        threshold: the score below which the best label is not good enough.
    """

    names: tuple[str, ...] = ()
    threshold: float | None = None

    @classmethod
    def of(cls, background: "BackgroundLike | Background") -> "Background":
        """The mode that a user means.

        Args:
            background: None or "off"; a number from 0 to 1, the threshold; or names of what is not
                asked for, as a list or a text such as ``"wall|floor"``.
        """
        if isinstance(background, Background):
            return background
        if background is None or (isinstance(background, str) and background.lower() == "off"):
            return cls()
        value: Any = background
        if isinstance(background, str):
            try:
                value = float(background)
            except ValueError as error:
                if re.match(r"\s*[\d.]", background):
                    raise ValueError(
                        f"background {background!r} came; a threshold is a number from 0 to 1 with "
                        "a point, such as 0.3"
                    ) from error
                value = re.split(r"[|,]", background)
        if isinstance(value, (int, float)):
            if isinstance(value, bool) or not 0 <= value <= 1:
                raise ValueError(f"background threshold {value!r}; it must lie from 0 to 1")
            return cls(threshold=float(value))
        names = tuple(_tidy(name) for name in value)
        if not names:
            raise ValueError("no background names came; give at least one, or None")
        for name in names:
            check_name(name)
        return cls(names=names)

    def join(self, labels: LabelSet) -> LabelSet:
        """The labels, followed by one more for each background name.

        Raises:
            ValueError: a background name is a label too.
        """
        taken = {_key(name) for names in (labels.labels, *labels.names) for name in names}
        for name in self.names:
            if _key(name) in taken:
                raise ValueError(
                    f"{name!r} is a label and a background name; leave it out of one of them"
                )
        return LabelSet(labels.labels + self.names, labels.names + tuple((n,) for n in self.names))


def parse_labels(text: str) -> LabelSet:
    """Labels between commas, synonyms between vertical bars; or the name of a standard list.

    A single word that ends in two digits or more is taken for the name of a list.
    """
    word = text.strip().lower()
    lists = list_names()
    if word in lists or word in LIST_ALIASES:
        return standard_list(word)
    stems = {re.sub(r"\d+$", "", name) for name in lists} - {"pc", "stuff"}  # these are words
    if re.fullmatch(r"[a-z_]+\d\d+", word) or word in stems:
        raise ValueError(unknown("class list", word, lists, f"Known are {', '.join(lists)}"))
    return LabelSet.of(text.split(",") if word else [])


def build_prompts(labels: LabelSet, templates: Sequence[str] = ("{}",)) -> list[list[str]]:
    """The sentences of each label: every name in every template, a name's sentences together.

    Args:
        labels: the label set.
        templates: sentences, each with one ``{}`` where the name goes.
    """
    if not templates:
        raise ValueError("no templates came; give at least one, such as 'a photo of a {}.'")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"template {template!r} must hold {{}} once, where the name goes")
    return [
        [template.replace("{}", name) for name in names for template in templates]
        for names in labels.names
    ]


@functools.cache
def standard_list(name: str, authors: str | None = None) -> LabelSet:
    """A bundled list of class names, in its published order.

    Args:
        name: one of :func:`~lexiseg.vocabularies.list_names`, or another usual name such as
            "context59".
        authors: whose names to put under the labels, such as "catseg": those that they publish,
            blanks and repeated names included, or else each label's first name alone. None takes
            the labels' own synonyms.

    Raises:
        ValueError: no such list; the message gives the nearest one.
    """
    content = read_list(name)
    names = tuple(_split(label) for label in content["labels"])
    label_set = LabelSet(tuple(each[0] for each in names), names)
    if authors is None:
        return label_set
    published = content.get("published", {}).get(authors)
    if published is None:
        return label_set.first_names()
    return LabelSet(label_set.labels, tuple(tuple(each.split("|")) for each in published))


def check_name(name: str, *, kind: str = "label") -> None:
    """What a text tower gets to read has words, is not too long, and is plain text.

    Args:
        name: a label, a synonym or an expression.
        kind: which of them, for the message.

    Raises:
        ValueError: it is empty, has more than 256 characters, or has control characters or halves
            of surrogate pairs.
    """
    if not name:
        raise ValueError(f"an empty {kind} came; remove it, or a comma or bar too many")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(
            f"{kind} {name[:20]!r}... has {len(name)} characters; at most {MAX_NAME_LENGTH} go"
        )
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in name):
        raise ValueError(f"{kind} {name!r} has control characters; remove them")


def _split(label: Any) -> tuple[str, ...]:
    if not isinstance(label, str):
        raise TypeError(f"a label came as {type(label).__name__}, {label!r}; give a text")
    return tuple(_tidy(name) for name in label.split("|"))


def _tidy(name: Any) -> str:
    """The name in Unicode's composed form, with single spaces."""
    if not isinstance(name, str):
        raise TypeError(f"a label came as {type(name).__name__}, {name!r}; give a text")
    return re.sub(" +", " ", unicodedata.normalize("NFC", name).strip())


def _check_unique(names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if _key(name) in seen:
            before = seen[_key(name)]
            raise ValueError(f"label {name!r} came twice (before as {before!r}); name it once")
        seen[_key(name)] = name


def _key(name: str) -> str:
    """What two names must differ in."""
    return name.casefold()
