"""The parity cases themselves: found, compared and re-made as parity.py says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests import make_parity_cases, parity
from tests.parity import Case, cases, fill

TEN_MEGABYTES = 10_000_000


def test_numbers_follow_from_names():
    np.testing.assert_allclose(fill("logit_scale", ()), np.log(1 / 0.07), rtol=1e-6)
    assert fill("a.bias", (1000,)).std() == pytest.approx(0.02, rel=0.1)
    assert fill("norm.weight", (1000,)).mean() == pytest.approx(1, abs=0.02)
    assert fill("a.weight", (50, 400)).std() == pytest.approx(0.05, rel=0.05)
    np.testing.assert_array_equal(fill("a.weight", (2, 3)), fill("a.weight", (2, 3)))
    assert not np.array_equal(fill("a.weight", (2, 3)), fill("b.weight", (2, 3)))


def test_a_comparison_takes_the_part_that_was_kept():
    whole = np.arange(12.0).reshape(3, 4)
    case = Case("x.npz", {"a": whole[:, ::3]}, {"a": {"steps": [1, 3], "largest": 11.0}})
    case.check("a", torch.from_numpy(whole))
    with pytest.raises(AssertionError, match=r"x.npz a: differs by 0.001, allowed 0.00022"):
        case.check("a", whole + 0.001)
    case.check("a", whole + 0.001, absolute=0.002)
    with pytest.raises(AssertionError, match="shape"):
        case.check("a", whole[:2])


def test_photographs_come_back_as_they_were_packed():
    photos = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(parity.unpack_photo(parity.pack_photo(photos[0])), photos[0])
    np.testing.assert_array_equal(parity.unpack_photos(parity.pack_photos(photos)), photos)


def test_full_cases_may_be_absent_but_not_in_ci(monkeypatch, tmp_path):
    monkeypatch.setattr(parity, "FULL", tmp_path)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"\.\./shared/parity/clip, are not here"):
        cases("clip", "full")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="CI must not skip them"):
        cases("clip", "full")


def test_the_compact_copies_are_small():
    size = sum(path.stat().st_size for path in parity.COMPACT.rglob("*") if path.is_file())
    assert size <= TEN_MEGABYTES


@pytest.mark.parametrize("method", list(make_parity_cases.RECIPES))
def test_the_compact_copy_is_what_its_command_makes(method: str, tmp_path: Path):
    source = cases(method, "full").folder.parent
    make_parity_cases.make(method, source, tmp_path)
    made, kept = tmp_path / method, parity.COMPACT / method
    assert {path.name for path in made.iterdir()} == {path.name for path in kept.iterdir()}
    for path in made.iterdir():
        if path.suffix == ".npz":
            with np.load(path) as new, np.load(kept / path.name) as old:
                assert new.files == old.files
                for key in new.files:
                    np.testing.assert_array_equal(new[key], old[key])
        elif path.name == parity.THINNING:
            assert path.read_text() == (kept / path.name).read_text()
        else:
            name = path.name.removesuffix(".gz")
            assert parity.Cases(made).json(name) == parity.Cases(kept).json(name)
