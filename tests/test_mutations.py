"""The list of mutations stays true of the code; running it takes long: ``make mutations``."""

import ast
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_what_is_replaced_stands_there_once(mutation: Mutation) -> None:
    source = (ROOT / "src" / "lexiseg" / mutation.file).read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1
    changed = source.replace(mutation.old, mutation.new)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
    for test in mutation.tests:
        assert Path(ROOT, "tests", test.partition("::")[0]).is_file()


def test_every_part_is_there() -> None:
    """All five methods, data, evaluation, training, outputs, server."""
    folders = {mutation.file.rpartition("/")[0] for mutation in MUTATIONS}
    methods = {f"methods/{name}" for name in ("catseg", "cris", "escnet", "freeda", "segclip")}
    others = {"data", "evaluation", "training", "outputs", "apps/server", "jobs", "encoders"}
    assert methods | others <= folders
    assert len({mutation.what for mutation in MUTATIONS}) == len(MUTATIONS) >= 20
