"""The vocabularies that are bundled: lists of class names, and sets of templates."""

import functools
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from lexiseg.registry import unknown

LIST_ALIASES = {"context59": "pc59", "context459": "pc459", "coco_stuff": "stuff171"}


def list_names() -> list[str]:
    """The standard lists that are bundled, sorted."""
    return _names_in("class_lists")


def read_list(name: str) -> Any:
    """The content of a bundled list: its labels, and what authors call them.

    Args:
        name: one of :func:`list_names`, or another usual name such as "context59".

    Raises:
        ValueError: no such list; the message gives the nearest one.
    """
    lists = list_names()
    file = LIST_ALIASES.get(name, name)
    if file not in lists:
        raise ValueError(unknown("class list", name, lists, f"Known are {', '.join(lists)}"))
    return _read("class_lists", file)


def standard_palette(name: str) -> tuple[tuple[int, int, int], ...] | None:
    """RGB of each label of a bundled list as the benchmark is usually drawn; None: no usual one.

    Raises:
        ValueError: no such list; the message gives the nearest one.
    """
    colours = read_list(name).get("palette")
    if colours is None:
        return None
    return tuple((int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)) for c in colours)


def template_names() -> list[str]:
    """The sets of templates that are bundled, sorted."""
    return _names_in("templates")


@functools.cache
def template_set(name: str) -> tuple[str, ...]:
    """A bundled set of templates, such as "imagenet" (80), "imagenet_select" (7) or "clip" (1).

    Raises:
        ValueError: no such set; the message gives the nearest one.
    """
    sets = template_names()
    if name not in sets:
        hint = f"known are {', '.join(sets)}; or give a sentence with {{}}"
        raise ValueError(unknown("templates", name, sets, hint))
    return tuple(_read("templates", name)["templates"])


def chosen_templates(templates: str | Sequence[str] | None, own: Sequence[str]) -> tuple[str, ...]:
    """The sentences that a user means.

    Args:
        templates: sentences with ``{}`` for the label, one of them, or the name of a bundled set;
            None for the model's own.
        own: those of the model.

    Raises:
        ValueError: no such set; the message gives the nearest one.
    """
    if templates is None:
        return tuple(own)
    if not isinstance(templates, str):
        return tuple(templates)
    return (templates,) if "{}" in templates else template_set(templates)


def _names_in(folder: str) -> list[str]:
    entries = (resources.files("lexiseg") / "assets" / folder).iterdir()
    return sorted(e.name.removesuffix(".json") for e in entries if e.name.endswith(".json"))


def _read(folder: str, name: str) -> Any:
    file = resources.files("lexiseg") / "assets" / folder / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))
