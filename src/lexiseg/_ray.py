"""The way to a Ray cluster (extra ``ray``)."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from lexiseg._extras import need

_SECONDS_TO_ANSWER = 10.0


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connected to a cluster, or to one of this machine alone; nothing is reported to anyone.

    Raises:
        ImportError: Ray is not installed.
        ValueError: no cluster is at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = need("ray", extra="ray", purpose="work on several machines")
    begun_here = not ray.is_initialized()
    if begun_here:
        try:
            _knock(address)
            # A cluster that is there already refuses to be told how to be.
            ours = {"include_dashboard": False} if address is None else {}
            ray.init(address=address, log_to_driver=False, **ours)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"no Ray cluster at {address!r} ({error}); start one by `ray start --head`, or "
                "leave the address out"
            ) from error
    try:
        yield
    finally:
        if begun_here:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Whether anyone listens at HOST:PORT; Ray itself asks a dead one for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "//" not in host:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_ANSWER).close()
