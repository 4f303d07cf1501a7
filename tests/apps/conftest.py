import gc
import re
import warnings
from collections.abc import Iterator

import pytest
from typer.testing import Result


def in_one_line(result: Result, message: str, exit_code: int) -> None:
    """Whether a command ended with one line on stderr."""
    assert result.exit_code == exit_code, result.output
    assert re.search(message, result.stderr), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output


@pytest.fixture(scope="module")
def gradio_collected() -> Iterator[None]:
    """What gradio leaves open is collected here, where its warnings are ignored."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
