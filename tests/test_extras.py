import json
from pathlib import Path

import pytest

from lexiseg._extras import need


def test_what_is_there_is_given() -> None:
    assert need("json", extra="freeda", purpose="A test") is json


def test_what_is_missing_has_a_pip_line() -> None:
    message = r'A test needs nothing_here: pip install "lexiseg\[freeda\]"'
    with pytest.raises(ImportError, match=message):
        need("nothing_here", extra="freeda", purpose="A test")


def test_a_broken_package_shows_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import nothing_here")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'nothing_here'"):
        need("half_installed", extra="freeda", purpose="A test")
