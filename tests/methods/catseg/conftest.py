from collections.abc import Iterator

import pytest

from tests import parity


@pytest.fixture(scope="package", autouse=True)
def _forget() -> Iterator[None]:
    yield
    parity.forget()
