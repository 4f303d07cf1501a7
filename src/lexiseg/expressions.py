"""Expressions: what each of them finds in a picture, by itself, with a model that scores labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from lexiseg.methods.base import SegmentationModel
from lexiseg.prompts import Background, LabelSet, check_name
from lexiseg.result import Segmentation

Found = tuple[Bool[np.ndarray, "H W"], float]  # a mask, and the mean score of its pixels


def tidy_expressions(expressions: Sequence[str]) -> tuple[str, ...]:
    """Without blanks around them.

    Raises:
        TypeError: one string came in the place of a list.
        ValueError: there is none, or one of them is empty, too long, or has control characters.
    """
    if isinstance(expressions, str):
        raise TypeError(f"one string came, {expressions!r}; give a list of expressions")
    tidy = tuple(expression.strip() for expression in expressions)
    if not tidy:
        raise ValueError("no expressions came; give at least one, such as 'the dog on the left'")
    for expression in tidy:
        check_name(expression, kind="expression")
    return tidy


def expression_background(model: SegmentationModel, given: Background) -> Background:
    """When a pixel is none of an expression's: what was given, or what the kind of model needs."""
    if given != Background() or not model.exclusive:
        return given
    if model.activation == "softmax":
        return Background(names=("background",))
    return Background(threshold=model.threshold)


def find(
    segment: Callable[..., Segmentation],
    model: SegmentationModel,
    image: UInt8[np.ndarray, "H W 3"],
    expressions: Sequence[str],
    rule: Background,
) -> list[Found]:
    """The mask and the score of each expression, in turn.

    Args:
        segment: looks at the picture; called with it, a label set and a background.
        model: what looks.
        image: RGB.
        expressions: tidy; what is written twice, large or small, is asked once.
        rule: of :func:`expression_background`.
    """
    once: dict[str, str] = {}
    for expression in expressions:
        once.setdefault(expression.casefold(), expression)
    asked = LabelSet(tuple(once.values()), tuple((each,) for each in once.values()))
    looks = _at_once if not model.exclusive and not rule.names else _one_by_one
    found = dict(zip(once, looks(segment, model, image, asked, rule), strict=True))
    return [found[expression.casefold()] for expression in expressions]


def _at_once(
    segment: Callable[..., Segmentation],
    model: SegmentationModel,
    image: UInt8[np.ndarray, "H W 3"],
    asked: LabelSet,
    rule: Background,
) -> Iterator[Found]:
    """One look, where each text is judged alone."""
    threshold = model.threshold if rule.threshold is None else rule.threshold
    result = segment(image, asked, background=rule, scores=True)
    assert result.scores is not None  # they were asked for
    for scores in result.scores:
        yield _held(scores >= threshold, scores)


def _one_by_one(
    segment: Callable[..., Segmentation],
    model: SegmentationModel,
    image: UInt8[np.ndarray, "H W 3"],
    asked: LabelSet,
    rule: Background,
) -> Iterator[Found]:
    """A look for each, against the background alone, where texts compete."""
    for expression in asked.labels:
        names = tuple(n for n in rule.names if n.casefold() != expression.casefold())
        alone = LabelSet((expression,), ((expression,),))
        result = segment(image, alone, background=replace(rule, names=names))
        yield _held(result.mask(expression), result.confidence)


def _held(mask: Bool[np.ndarray, "H W"], scores: Float[np.ndarray, "H W"]) -> Found:
    return mask, float(scores[mask].mean()) if mask.any() else 0.0
