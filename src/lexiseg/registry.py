"""Model names and their builders: a decorator and a dictionary."""

import difflib
import importlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, TypeVar

Builder = TypeVar("Builder", bound=Callable[..., Any])

logger = logging.getLogger(__name__)

_BUILDERS: dict[str, Callable[..., Any]] = {}
_HINT = "lexiseg.list_models() names all"


def register_model(builder: Builder) -> Builder:
    """Make a builder known under its function's name; a name can be taken only once.

    Args:
        builder: called without arguments; it builds the model with weights drawn at random, over
            which :func:`create_model` loads others under the names of ``model.from_published``.

    Raises:
        ValueError: the name is taken.
    """
    name = builder.__name__
    if name in _BUILDERS:
        raise ValueError(f"model {name!r} is registered already; choose another function name")
    _BUILDERS[name] = builder
    return builder


def create_model(
    name: str, weights: str | os.PathLike[str] | Mapping[str, Any] | None = None
) -> Any:
    """Build a model, a :class:`~lexiseg.methods.base.SegmentationModel`.

    Args:
        name: ``arch``, or ``arch.tag`` for the weights of that tag, such as
            "catseg_vitb16.coco_stuff". An ``arch`` whose weights are bundled gets them; another has
            weights drawn at random.
        weights: a published checkpoint instead, as it is: a path or its state dict. A model that
            starts from several, such as ESC-Net from CLIP and SAM, takes a dictionary of them:
            ``{"clip": PATH, "sam": PATH}``; its ``key_fates`` then say where each tensor went.

    Raises:
        ValueError: no such model, no such part of it, or the weights do not fit it.
    """
    arch, _, tag = name.partition(".")
    records = weights_of(arch)
    build = builder_of(arch)
    if tag and name not in records:
        raise ValueError(unknown("model", name, list_models()))
    if weights is not None:
        if tag:
            raise ValueError(f"model {name!r} names its weights, and others came; give {arch!r}")
        return _loaded(build, weights)
    bundled = _bundled(records)
    if not tag and not bundled:
        return build()
    return _loaded(build, records[name if tag else bundled[0]])


def pretrained_name(name: str) -> str:
    """The full name, ``arch.tag``, of the weights that a short name means.

    Raises:
        ValueError: no such model, or none or several sets of weights for it.
    """
    arch, _, tag = name.partition(".")
    records = weights_of(arch)
    builder_of(arch)
    if tag:
        return name
    choice = _bundled(records)[:1] or list(records)
    if len(choice) == 1:
        return choice[0]
    if choice:
        raise ValueError(f"model {name!r} has several sets of weights: {', '.join(choice)}")
    raise ValueError(
        f"model {name!r} has no weights to load; give yours: {name}=FILE on the command line, "
        f"Segmenter(create_model({name!r}, weights=PATH)) in Python"
    )


def create_pretrained(name: str | os.PathLike[str]) -> Any:
    """Build a model with the weights that a name, a file or an address of the hub stands for.

    Args:
        name: as for :meth:`lexiseg.Segmenter.from_pretrained`.

    Raises:
        ValueError: there are no such weights, they are damaged, or they do not fit.
        ConnectionError: they cannot be downloaded.
    """
    from lexiseg import hub, weights  # torch, not needed for names

    if isinstance(name, str) and hub.is_address(name):
        name = hub.download(name)
    if isinstance(name, str) and not name.endswith(".safetensors"):
        return create_model(pretrained_name(name))
    if not os.path.isfile(name):
        raise ValueError(f"no weights at {os.fspath(name)!r}; give a model's name or a file")
    arch = weights.read_metadata(os.fspath(name)).get("model")
    if arch is None:
        raise ValueError(
            f"{os.fspath(name)!r} does not say which model it belongs to; "
            "use Segmenter(create_model(ARCH, weights=PATH))"
        )
    return create_model(arch, weights=name)


def list_models(*, pretrained: bool = False) -> list[str]:
    """Names for :func:`create_model`, sorted.

    Args:
        pretrained: only those with weights, ``arch.tag``.
    """
    tagged = [name for arch in registered() for name in weights_of(arch)]
    return sorted(tagged if pretrained else [*registered(), *tagged])


def registered() -> list[str]:
    """All architecture names, sorted."""
    _methods()
    return sorted(_BUILDERS)


def builder_of(name: str) -> Callable[..., Any]:
    """The builder of an architecture.

    Raises:
        ValueError: no such name; the message gives the nearest one.
    """
    _methods()
    if name not in _BUILDERS:
        raise ValueError(unknown("model", name, _BUILDERS))
    return _BUILDERS[name]


def weights_of(arch: str) -> dict[str, Any]:
    """The records of an architecture's weights under their full names."""
    table: Mapping[str, Any] = _methods().WEIGHTS
    return {name: record for name, record in table.items() if name.partition(".")[0] == arch}


def unknown(kind: str, name: str, known: Iterable[str], hint: str = _HINT) -> str:
    """The one sentence for a name that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {name!r}{guess} {hint}"


def _methods() -> Any:
    """The package of methods, whose import fills the dictionary (they import this module)."""
    return importlib.import_module("lexiseg.methods")


def _bundled(records: Mapping[str, Any]) -> list[str]:
    return [name for name, record in records.items() if record.asset is not None]


def _loaded(build: Callable[..., Any], source: Any) -> Any:
    from lexiseg import weights  # torch, which names do not need

    parts = weights.parts_of(source)
    is_whole = isinstance(source, weights.Weights)  # a file may be what a model only begins with
    with weights.Uninitialised() if is_whole else nullcontext():
        model = build()
    if parts is None:
        state, is_file = weights.read_weights(source), not isinstance(source, Mapping)
        weights.load_state(model, state, model.from_published, take=is_file)
        return model
    wrong = sorted(parts.keys() - set(model.parts))
    if wrong:
        takes = " and ".join(map(repr, model.parts)) or "one file alone, weights=PATH"
        raise ValueError(f"weights came for {wrong}, but {type(model).__name__} takes {takes}")
    states = {part: model.read_part(part, file) for part, file in parts.items()}
    for fate in model.initialise(states):
        logger.info("%s", fate)
    return model
