"""Changes to a run's configuration, given as text: ``steps=10``, ``optim.lr=1e-4``."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

Config = TypeVar("Config")


def change(config: Config, settings: Sequence[str]) -> Config:
    """A copy of a frozen dataclass with some fields changed.

    Args:
        config: the configuration; its fields are numbers, booleans, texts, tuples of numbers or
            such dataclasses.
        settings: ``key=value``; dots lead into a field that is a dataclass itself, and commas part
            the numbers of a tuple.

    Raises:
        ValueError: a setting has no "=", names no field, or its value is of another type.
    """
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"setting {setting!r} came; write it as KEY=VALUE, as in steps=10")
        config = _change(config, key.split("."), value, setting)
    return config


def _change(config: Any, keys: list[str], value: str, setting: str) -> Any:
    names = [field.name for field in fields(config)]
    if keys[0] not in names:
        raise ValueError(f"setting {setting!r}: no field {keys[0]!r}; there are {', '.join(names)}")
    old = getattr(config, keys[0])
    if len(keys) > 1 and is_dataclass(old):
        return replace(config, **{keys[0]: _change(old, keys[1:], value, setting)})
    if len(keys) > 1 or is_dataclass(old):
        raise ValueError(f"setting {setting!r}: {keys[0]!r} is not one value that can be set")
    return replace(config, **{keys[0]: _parse(old, value, setting)})


def _parse(old: Any, value: str, setting: str) -> Any:
    kind = type(old)
    if kind is bool:
        words = {"true": True, "false": False}
        if value.lower() in words:
            return words[value.lower()]
        raise ValueError(f"setting {setting!r}: write true or false")
    if kind is tuple:
        return tuple(_parse(0.0, part, setting) for part in value.split(",") if part)
    try:
        return kind(value)
    except ValueError as error:
        raise ValueError(f"setting {setting!r}: {value!r} is no {kind.__name__}") from error
