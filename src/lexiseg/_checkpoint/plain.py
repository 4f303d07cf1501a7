"""Pickles of plain data: dictionaries, lists, tuples, texts, bytes, numbers, True, False, None.

Data sets are handed out as pickles too. These need no name at all, so every name is refused, and
with it every call: what a file holds is data, or the reading ends.
"""

import io
from typing import Any

from lexiseg._checkpoint.machine import Machine
from lexiseg._checkpoint.records import Global, UnsafeCheckpointError

MOST_OPCODES = 20_000_000  # the largest REFER file has about 6 million


def read_plain(data: bytes, name: str, *, most_opcodes: int = MOST_OPCODES) -> Any:
    """The data in a pickle of any protocol, a million opcodes in about two seconds.

    Bytes that Python 2 wrote as its ``str`` come as text, one character for each.

    Args:
        data: the pickle.
        name: what messages call it.
        most_opcodes: a longer pickle is refused.

    Raises:
        UnsafeCheckpointError: the pickle asks for code, is damaged or too long.
    """
    try:
        return _PlainMachine(io.BytesIO(data), _never, most_opcodes=most_opcodes).run()
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{name}: {error}") from error


def _never(_: Global) -> bool:
    return False


class _PlainMachine(Machine):
    def _name(self, module: Any, name: Any) -> None:
        raise UnsafeCheckpointError(
            f"the file asks for {module}.{name}"[:200] + ", which plain data does not need; "
            "it was not run. Get the file from its authors again"
        )
