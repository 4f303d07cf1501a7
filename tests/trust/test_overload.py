"""Eight clients for a minute at a server with three places in its queue."""

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.apps.server.test_overload import PLACES, Slow, ask, served, wait_until_ready

CLIENTS, SECONDS = 8, 60
SLACK = 1.0  # seconds of a busy machine, for what is not the model's
SERVED = served  # a fixture, which pytest finds by its name in this module


@pytest.mark.slow
def test_a_minute_of_overload(served: tuple[str, Slow]) -> None:  # noqa: F811
    address, model = served
    wait_until_ready(address)
    end = time.monotonic() + SECONDS

    def client(_: int) -> Iterator[tuple[int, float]]:
        while time.monotonic() < end:
            began = time.monotonic()
            yield ask(address)[0], time.monotonic() - began

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [
            each for part in pool.map(lambda n: list(client(n)), range(CLIENTS)) for each in part
        ]
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) <= {200, 429, 503, 504}
    assert statuses[200] > SECONDS
    assert model.most == 1
    waited = [seconds for status, seconds in answers if status == 200]
    # No result waits for more than the places before it, each for as long as the model takes.
    assert np.quantile(waited, 0.99) <= (PLACES + 1) * 0.005 * 4 + SLACK
    assert ask(address) == (200, None)
