"""What an expression means for a pixel; test_referral.py has what is found by them."""

from typing import Any, ClassVar

import pytest

from lexiseg.expressions import expression_background, tidy_expressions
from lexiseg.prompts import Background
from tests.conftest import Painter


def test_expressions_are_tidied_and_checked() -> None:
    assert tidy_expressions([" the red dog ", "a, b|c"]) == ("the red dog", "a, b|c")
    for expressions, message in (
        ([], "no expressions came"),
        (["red", " "], "an empty expression"),
        (["x" * 257], "expression 'x.*257 characters; at most 256"),
        (["do\ng"], "expression .* has control characters"),
    ):
        with pytest.raises(ValueError, match=message):
            tidy_expressions(expressions)


class Rival(Painter):
    """Texts compete, but their scores are no shares of one."""

    activation: ClassVar[Any] = "sigmoid"
    threshold: ClassVar[float] = 0.35


def test_what_is_none_of_an_expression(painter: Any, judge: Any) -> None:
    assert expression_background(painter, Background()) == Background(names=("background",))
    assert expression_background(Rival(), Background()) == Background(threshold=0.35)
    assert expression_background(judge, Background()) == Background()
    for given in (Background(threshold=0.2), Background(names=("wall",))):
        for model in (painter, judge, Rival()):
            assert expression_background(model, given) == given
