"""The one door to optional packages."""

import importlib
from types import ModuleType


def need(package: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say how to get it.

    Args:
        package: its import name.
        extra: the extra of lexiseg that brings it.
        purpose: what it is for, as the beginning of the message: "FreeDA's retrieval".

    Raises:
        ImportError: it is not installed; the message has the pip line.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or package.partition(".")[0] != error.name.partition(".")[0]:
            raise
        raise ImportError(
            f'{purpose} needs {package}: pip install "lexiseg[{extra}]"', name=package
        ) from error
