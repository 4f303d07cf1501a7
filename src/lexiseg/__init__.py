"""lexiseg: segment images by text.

The six names below are imported when they are first used, so that ``import lexiseg`` is quick and
does not load torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .registry import create_model as create_model
    from .registry import list_models as list_models
    from .registry import register_model as register_model
    from .result import Segmentation as Segmentation
    from .segmenter import Segmenter as Segmenter

    __version__: str

_HOMES = {
    "Segmentation": "result",
    "Segmenter": "segmenter",
    "create_model": "registry",
    "list_models": "registry",
    "register_model": "registry",
}
__all__ = [
    "Segmentation",
    "Segmenter",
    "__version__",
    "create_model",
    "list_models",
    "register_model",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("lexiseg")
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(f"lexiseg.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'lexiseg' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
