import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import lexiseg.methods  # noqa: F401  fills the registry
from lexiseg.registry import registered
from tests.methods import contract

CHECKS = [
    check
    for name, check in inspect.getmembers(contract, inspect.isfunction)
    if name.startswith("check_") and name != "check_save_and_load"
]


@pytest.mark.parametrize("name", registered())
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(name: str, check: Callable) -> None:
    check(contract.make(name))


@pytest.mark.parametrize("name", registered())
def test_save_and_load(name: str, tmp_path: Path) -> None:
    contract.check_save_and_load(contract.make(name), contract.make(name, seed=1), tmp_path)


def test_stand_ins_are_of_registered_models() -> None:
    assert set(contract.TINY) <= set(registered())
