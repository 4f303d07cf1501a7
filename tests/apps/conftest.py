import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def gradio_collected() -> Iterator[None]:
    """What gradio leaves open is collected here, where its warnings are ignored."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
