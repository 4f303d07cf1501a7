"""A pickle reader that cannot run code: it only builds inert records.

Python's own unpickler calls whatever a file names. Here the opcodes only move data: a call in the
file becomes a record (records.py), and values.py turns those few that describe tensors, arrays and
dictionaries into values. A name outside its list ends the reading.
"""

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from lexiseg._checkpoint.records import (
    STORAGE_TYPES,
    Global,
    Made,
    StorageRef,
    UnsafeCheckpointError,
)

MOST_OPCODES = 1_000_000
LONGEST_INTEGER = 128  # bits
# Everything that goes wrong in the decoding of hostile bytes.
DECODING_ERRORS = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RecursionError,
    MemoryError,
    struct.error,
)


class Machine:
    """Reads one pickle from a stream into inert data.

    Args:
        stream: positioned at the pickle's start; afterwards at its end.
        allows: which names the pickle may hold.
        most_opcodes: a longer pickle is refused; None is a million, what weights need.

    Attributes:
        storages: those that the pickle names, by key.
    """

    def __init__(
        self,
        stream: Any,
        allows: Callable[[Global], bool],
        *,
        most_opcodes: int | None = None,
    ) -> None:
        self.stream = stream
        self.allows = allows
        self.most_opcodes = MOST_OPCODES if most_opcodes is None else most_opcodes
        self.storages: dict[str, StorageRef] = {}
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The inert data.

        Raises:
            UnsafeCheckpointError: an opcode or a name is not allowed, or the bytes make no sense.
        """
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(self.stream)):
                if count > self.most_opcodes:
                    raise UnsafeCheckpointError(
                        f"a pickle has more than {self.most_opcodes} opcodes"
                    )
                self._step(opcode.name, argument)
            return self._stack.pop()
        except UnsafeCheckpointError:
            raise
        except DECODING_ERRORS as error:
            raise UnsafeCheckpointError(f"a pickle is damaged: {error}") from error

    def _step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        if name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > LONGEST_INTEGER:
                raise ValueError("an integer of absurd length")
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _SIZED_TUPLES:
            self._stack.append(self._take(_SIZED_TUPLES[name]))
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise UnsafeCheckpointError(f"the pickle opcode {name} is not allowed in weights")

    def _take(self, count: int) -> tuple[Any, ...]:
        if len(self._stack) < count:
            raise ValueError("the stack is too short")
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        return values

    def _take_marked(self) -> tuple[Any, ...]:
        return self._take(len(self._stack) - self._marks.pop())

    def mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def pop(self, _: Any) -> None:
        self._stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._take_marked()

    def duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def make_tuple(self, _: Any) -> None:
        self._stack.append(self._take_marked())

    def make_list(self, _: Any) -> None:
        self._stack.append(list(self._take_marked()))

    def make_dict(self, _: Any) -> None:
        values = self._take_marked()
        self._stack.append({})
        self._set(values)

    def append(self, _: Any) -> None:
        self._extend(self._take(1))

    def append_marked(self, _: Any) -> None:
        self._extend(self._take_marked())

    def _extend(self, values: tuple[Any, ...]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("elements for something that is no list")
        self._stack[-1].extend(values)

    def set_item(self, _: Any) -> None:
        self._set(self._take(2))

    def set_marked(self, _: Any) -> None:
        self._set(self._take_marked())

    def _set(self, values: tuple[Any, ...]) -> None:
        target = self._stack[-1]
        target = target.items if isinstance(target, Made) else target
        if not isinstance(target, dict):
            raise ValueError("items for something that is no dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int | float | bytes | None):
                raise ValueError(f"a dictionary key of type {type(key).__name__}")
            target[key] = value

    def remember(self, argument: Any) -> None:
        self._memo[len(self._memo) if argument is None else int(argument)] = self._stack[-1]

    def recall(self, argument: Any) -> None:
        self._stack.append(self._memo[int(argument)])

    def name_text(self, argument: Any) -> None:
        self._name(*argument.split(" ", 1))

    def name_stack(self, _: Any) -> None:
        self._name(*self._take(2))

    def _name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name that is no text")
        found = Global(module, name)
        if not self.allows(found):
            raise UnsafeCheckpointError(
                f"the file asks for {str(found)[:200]}, which weights do not need; it was not run. "
                "Use a file that holds tensors only"
            )
        self._stack.append(found)

    def call(self, _: Any) -> None:
        maker, args = self._take(2)
        if not isinstance(maker, Global) or not isinstance(args, tuple):
            raise UnsafeCheckpointError("a call of something that is no name")
        self._stack.append(Made(maker, args))

    def build(self, _: Any) -> None:
        (state,) = self._take(1)
        if not isinstance(self._stack[-1], Made):
            raise ValueError("a state for something that cannot have one")
        self._stack[-1].state = state

    def persistent(self, _: Any) -> None:
        (parts,) = self._take(1)
        kind, storage_type, key, _location, length, *view = parts
        if kind != "storage" or storage_type.module != "torch" or any(view):
            raise ValueError("an external object that is no plain storage")
        if not isinstance(key, str) or not isinstance(length, int) or length < 0:
            raise ValueError("a storage without a proper key or length")
        storage = StorageRef(key, STORAGE_TYPES[storage_type.name], length)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key!r} is declared in two ways")
        self._stack.append(storage)


_IGNORED = {"PROTO", "FRAME", "STOP"}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_SIZED_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "MARK": Machine.mark,
    "POP": Machine.pop,
    "POP_MARK": Machine.pop_mark,
    "DUP": Machine.duplicate,
    "TUPLE": Machine.make_tuple,
    "LIST": Machine.make_list,
    "DICT": Machine.make_dict,
    "APPEND": Machine.append,
    "APPENDS": Machine.append_marked,
    "SETITEM": Machine.set_item,
    "SETITEMS": Machine.set_marked,
    "PUT": Machine.remember,
    "BINPUT": Machine.remember,
    "LONG_BINPUT": Machine.remember,
    "MEMOIZE": Machine.remember,
    "GET": Machine.recall,
    "BINGET": Machine.recall,
    "LONG_BINGET": Machine.recall,
    "GLOBAL": Machine.name_text,
    "STACK_GLOBAL": Machine.name_stack,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.persistent,
}
