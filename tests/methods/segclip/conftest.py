from collections.abc import Iterator

import pytest

from tests.methods.segclip import recordings


@pytest.fixture(scope="package", autouse=True)
def _forget() -> Iterator[None]:
    yield
    recordings.forget()
