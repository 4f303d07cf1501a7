"""The folder of what is downloaded, and of what is costly to compute; without torch."""

import os
from pathlib import Path

CACHE_VARIABLE = "LEXISEG_CACHE"


def cache_folder() -> Path:
    """``~/.cache/lexiseg``, or what LEXISEG_CACHE names."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "lexiseg")
