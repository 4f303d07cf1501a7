"""The public surface against a checked-in list; change both together, and the changelog."""

import inspect
import json
from pathlib import Path

import pytest

import lexiseg

SURFACE = json.loads((Path(__file__).parent / "public_api.json").read_text(encoding="utf-8"))


def test_names() -> None:
    assert sorted(lexiseg.__all__) == sorted(
        [*SURFACE["functions"], *SURFACE["classes"], "__version__"]
    )
    assert dir(lexiseg) == sorted(lexiseg.__all__)
    assert lexiseg.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="has no attribute 'Segmentor'"):
        lexiseg.Segmentor  # noqa: B018 (the access is the test)


@pytest.mark.parametrize("name", SURFACE["functions"])
def test_functions(name: str) -> None:
    assert arguments(getattr(lexiseg, name)) == SURFACE["functions"][name]


@pytest.mark.parametrize("name", SURFACE["classes"])
def test_classes(name: str) -> None:
    assert members(getattr(lexiseg, name)) == SURFACE["classes"][name]


def members(cls: type) -> dict[str, str]:
    """Constructor, methods and properties of a class, with their arguments."""
    found = {"()": arguments(cls)}
    for name, value in vars(cls).items():
        if name == "__call__" or not name.startswith("_"):
            if isinstance(value, property):
                found[name] = "property"
            elif callable(getattr(cls, name)):
                found[name] = arguments(getattr(cls, name))
    return found


def arguments(function: object) -> str:
    """Names, kinds and defaults, without annotations."""
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    empty = inspect.Signature.empty
    return str(signature.replace(parameters=bare, return_annotation=empty))
