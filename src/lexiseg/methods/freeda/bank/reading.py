"""Reading what the files of a bank say, damaged ones included."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lexiseg._checkpoint.packed import read_header
from lexiseg.methods.freeda.bank.files import HEADER

FORMAT = "lexiseg prototype bank"
VERSION = 1
LARGEST_HEADER = 2**20
LARGEST_LINE = 2**16
TYPES = ("F16", "F32")


class BankError(ValueError):
    """A bank that is missing, damaged, or does not fit what is asked of it."""


@dataclass(frozen=True)
class BankKind:
    """How the rows of a bank were made; only banks of one kind can be joined.

    Attributes:
        text_encoder: whose sentence space the keys lie in, such as "clip_vitb16".
        image_encoder: whose features the prototypes are, such as "dinov2_vitb14".
        pooling: how a prototype was pooled from them, in words.
    """

    text_encoder: str
    image_encoder: str
    pooling: str


@dataclass(frozen=True)
class Record:
    """Where a row came from.

    Attributes:
        word: what the key says.
        caption: the sentence around it; empty where there was none.
        seed: of the image that was generated; None for a photograph.
        source: the photograph or the generator.
    """

    word: str
    caption: str = ""
    seed: int | None = None
    source: str = ""


def read_bank_header(folder: Path) -> dict[str, Any]:
    """The header, with everything in it of the right type."""
    path = folder / HEADER
    try:
        if not path.is_file():
            raise BankError(f"no bank at {str(folder)!r}: it has no {HEADER}; check the path")
        if path.stat().st_size > LARGEST_HEADER:
            raise BankError(f"{path} is larger than a header can be; get the bank again")
        header = _parse_object(path.read_bytes())
    except (OSError, ValueError) as error:
        if isinstance(error, BankError):
            raise
        raise BankError(f"{path} is damaged: {error}; get the bank again") from error
    if header.get("format") != FORMAT:
        raise BankError(f"{path} is no header of a prototype bank")
    if header.get("version") != VERSION:
        raise BankError(
            f"the bank at {str(folder)!r} has version {header.get('version')!r}; this lexiseg "
            f"reads version {VERSION}"
        )
    _check_fields(header, path)
    return header


def _check_fields(header: Mapping[str, Any], path: Path) -> None:
    kind, sums = header.get("kind"), header.get("checksums")
    is_sound = (
        isinstance(kind, dict)
        and set(kind) == set(BankKind.__dataclass_fields__)
        and all(isinstance(value, str) for value in kind.values())
        and isinstance(sums, dict)
        and set(sums) == {"vectors", "records"}
        and all(isinstance(value, str) and _is_digest(value) for value in sums.values())
        and header.get("type") in TYPES
        and all(
            type(header.get(name)) is int and 0 <= header[name] < 2**40
            for name in ("rows", "key_width", "prototype_width")
        )
    )
    if not is_sound:
        raise BankError(f"{path} is damaged: a field is missing or wrong; get the bank again")


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def check_vectors(file: Path, header: Mapping[str, Any]) -> None:
    """The tables that a file declares are those of the bank's header."""
    if not file.is_file():
        raise BankError(f"the bank lacks {file.name}; get it again")
    try:
        declared = read_header(file)
    except (ValueError, OSError) as error:
        raise BankError(f"{file.name} of the bank is damaged: {error}") from error
    declared.pop("__metadata__", None)
    expected = {
        "keys": [header["rows"], header["key_width"]],
        "prototypes": [header["rows"], header["prototype_width"]],
    }
    found = {
        name: row.get("shape") if isinstance(row, dict) else None for name, row in declared.items()
    }
    types = [row.get("dtype") for row in declared.values() if isinstance(row, dict)]
    if found != expected or set(types) != {header["type"]}:
        raise BankError(
            f"{file.name} holds {found} of {types}, but the bank's header says {expected} of "
            f"{header['type']}; get the bank again"
        )


def read_records(file: Path) -> Iterator[Record]:
    """The records in a file.

    Raises:
        BankError: the file cannot be read, or a record is damaged.
    """
    for number, line in enumerate(_lines(file)):
        yield _record(line, number)


def _lines(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while line := opened.readline(LARGEST_LINE + 1):
                if len(line) > LARGEST_LINE:
                    raise BankError(f"{file.name} has a line of more than {LARGEST_LINE} bytes")
                yield line
    except OSError as error:
        raise BankError(f"the bank's records cannot be read: {error}; get it again") from error


def _record(line: bytes, number: int) -> Record:
    try:
        row = _parse_object(line)
        record = Record(**row)
    except (ValueError, TypeError) as error:
        raise BankError(f"record {number} is damaged: {error}; get the bank again") from error
    texts = (record.word, record.caption, record.source)
    if not all(isinstance(text, str) for text in texts) or not (
        record.seed is None or type(record.seed) is int
    ):
        raise BankError(f"record {number} is damaged: a field is of the wrong type")
    return record


def _parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: the text is something else.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value
