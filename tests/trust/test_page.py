"""docs/trust.md names tests that exist, and numbers that are theirs."""

import ast
import re
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS
from tests.trust.corpus import corpus
from tests.trust.test_full_disk import COMMANDS, WRITERS
from tests.trust.test_hostile_weights import LOADERS
from tests.trust.test_image_intake import READABLE, REFUSED, SIZES
from tests.trust.test_no_network import addresses
from tests.trust.test_paths import LABELS, STEMS

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "trust.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`(?: \((slow)\))?", PAGE)


@pytest.mark.parametrize(("file", "name", "slow"), NAMED)
def test_the_tests_exist(file: str, name: str, slow: str) -> None:
    source = (TESTS / file).read_text(encoding="utf-8")
    functions = {node.name: node for node in ast.parse(source).body if hasattr(node, "name")}
    if not name:
        assert any(each.startswith("test_") for each in functions)
        return
    marks = " ".join(map(ast.unparse, functions[name].decorator_list))
    assert ("mark.slow" in marks) == bool(slow)


def test_every_promise_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 20
    assert all(re.search(r"`[\w/]+\.py", row.split("|")[2]) for row in rows[1:])


def test_the_numbers_are_those_of_the_tests(tmp_path: Path) -> None:
    for text in (
        f"{len(corpus(tmp_path))} kinds of hostile files through {len(LOADERS)} ways",
        f"{len(READABLE)} kinds, {len(SIZES)} shapes, {len(REFUSED)} that are refused",
        f"{len(LABELS)} labels, {len(STEMS)} names",
        f"{len(addresses(1))} ways to write one",
        f"{len(WRITERS)} writers and {len(COMMANDS)} commands",
        f"breaks {len(MUTATIONS)} lines",
    ):
        assert text in PAGE
