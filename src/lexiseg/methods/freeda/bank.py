"""The prototype bank: what a text may mean, as a key to search by and as image features.

BANK/bank.json                     version, who made keys and prototypes, counts, checksums
BANK/vectors-CHECKSUM.safetensors  keys (K, Dk) and prototypes (K, Dp), a row each; read lazily
BANK/records-CHECKSUM.jsonl        where each row came from: word, caption, seed, source

A bank changes by new files and then a new ``bank.json`` in the place of the old, so a reader sees
either the bank before or the bank after. One process writes at a time.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lexiseg._checkpoint.packed import read_header
from lexiseg.methods.freeda.bank_files import (
    HEADER,
    Shapes,
    checksum,
    copy_records,
    copy_vectors,
    named,
    parse_object,
    read_lines,
)
from lexiseg.weights import written_whole

FORMAT = "lexiseg prototype bank"
VERSION = 1
LARGEST_HEADER = 2**20
LARGEST_LINE = 2**16
TYPES = {"F16": torch.float16, "F32": torch.float32}
_ROWS_AT_ONCE = 16384


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


@dataclass(frozen=True, eq=False)
class PrototypeBank:
    """Keys and prototypes, a row of each belonging together.

    Attributes:
        keys: what a text is compared with, by inner product; of length one.
        prototypes: image features, not normalised.
        kind: how they were made.
        path: the folder they were opened from; None for a bank in memory.
        kept: the records of a bank in memory, or none.
    """

    keys: Float[Tensor, "K Dk"]
    prototypes: Float[Tensor, "K Dp"]
    kind: BankKind
    path: Path | None = None
    kept: tuple[Record, ...] = ()

    def __post_init__(self) -> None:
        if (
            self.keys.ndim != 2
            or self.prototypes.ndim != 2
            or len(self.keys) != len(self.prototypes)
        ):
            raise BankError(
                f"keys of {tuple(self.keys.shape)} and prototypes of "
                f"{tuple(self.prototypes.shape)}; both are tables with as many rows"
            )
        if self.kept and len(self.kept) != len(self.keys):
            raise BankError(f"{len(self.kept)} records for {len(self.keys)} rows; give one a row")

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def open(cls, path: str | Path) -> "PrototypeBank":
        """A bank on disk; its vectors stay there and are read as they are needed.

        Types and shapes are checked; :func:`verify` checks all that is inside.

        Raises:
            BankError: there is no bank, or it is damaged.
        """
        folder = Path(path)
        header = _read_header(folder)
        file = named(folder, "vectors", header["checksums"]["vectors"])
        _check_vectors(file, header)
        try:
            with safe_open(file, framework="pt") as opened:
                keys, prototypes = opened.get_tensor("keys"), opened.get_tensor("prototypes")
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise BankError(f"{file.name} of the bank is damaged: {error}; get it again") from error
        return cls(keys, prototypes, BankKind(**header["kind"]), folder)

    def records(self) -> Iterator[Record]:
        """Where each row came from, in their order.

        Raises:
            BankError: the records are damaged.
        """
        if self.path is None:
            yield from self.kept
            return
        header = _read_header(self.path)
        file = named(self.path, "records", header["checksums"]["records"])
        count = 0
        for number, line in enumerate(_lines(file)):
            count = number + 1
            yield _record(line, number)
        if count != len(self):
            raise BankError(f"the bank has {len(self)} rows but {count} records; get it again")

    @property
    def words(self) -> list[str]:
        """What each key says."""
        return [record.word for record in self.records()]


def write_bank(
    path: str | Path,
    keys: Float[Tensor, "K Dk"],
    prototypes: Float[Tensor, "K Dp"],
    records: Iterable[Record],
    kind: BankKind,
) -> PrototypeBank:
    """Write a bank in half precision, in the place of one that is there; equal rows, equal bytes.

    Raises:
        BankError: shapes or counts do not fit, or a number is not finite in half precision.
    """
    bank = PrototypeBank(keys, prototypes, kind, kept=tuple(records))
    if len(bank.kept) != len(bank):
        raise BankError(f"{len(bank.kept)} records for {len(bank)} rows; give one a row")
    return _write(Path(path), [_halved(bank)])


def append(
    path: str | Path,
    keys: Float[Tensor, "K Dk"],
    prototypes: Float[Tensor, "K Dp"],
    records: Iterable[Record],
    kind: BankKind,
) -> PrototypeBank:
    """Add rows at the end of a bank, or begin one.

    Raises:
        BankError: as in :func:`write_bank`, or the bank that is there is of another kind.
    """
    if not (Path(path) / HEADER).exists():
        return write_bank(path, keys, prototypes, records, kind)
    added = PrototypeBank(keys, prototypes, kind, kept=tuple(records))
    if len(added.kept) != len(added):
        raise BankError(f"{len(added.kept)} records for {len(added)} rows; give one a row")
    return _write(Path(path), [PrototypeBank.open(path), _halved(added)])


def merge(paths: Sequence[str | Path], target: str | Path) -> PrototypeBank:
    """Join banks of one kind, in the order they are given; no more than a block is in memory.

    Raises:
        BankError: no bank came, one is damaged, or they differ in kind, widths or precision.
    """
    if not paths:
        raise BankError("no banks came; give at least one to merge")
    return _write(Path(target), [PrototypeBank.open(path) for path in paths])


def info(path: str | Path) -> dict[str, Any]:
    """What a bank is, from its header alone: rows, widths, kind, size in bytes."""
    folder = Path(path)
    header = _read_header(folder)
    sums = header["checksums"]
    files = [named(folder, part, sums[part]) for part in ("vectors", "records")]
    return {
        "path": str(folder),
        "version": header["version"],
        **header["kind"],
        **{key: header[key] for key in ("rows", "key_width", "prototype_width", "type")},
        "bytes": sum(file.stat().st_size for file in files if file.is_file()),
    }


def verify(path: str | Path) -> list[str]:
    """What is wrong with a bank, a sentence each; nothing where all is well.

    Checked are checksums, shapes, finite numbers, the records, and rows that stand twice.
    """
    folder = Path(path)
    try:
        header = _read_header(folder)
        problems = [
            f"{file.name} has SHA-256 {actual}, but {expected} was written; get it again"
            for part, expected in header["checksums"].items()
            if (actual := checksum(file := named(folder, part, expected))) != expected
        ]
        bank = PrototypeBank.open(folder)
        problems += _vector_problems(bank)
        for _ in bank.records():
            pass
    except (BankError, OSError) as error:
        return [str(error)]
    return problems


def _vector_problems(bank: PrototypeBank) -> list[str]:
    problems = []
    for name, table in (("keys", bank.keys), ("prototypes", bank.prototypes)):
        blocks = table.split(_ROWS_AT_ONCE)
        wrong = sum(int((~block.isfinite().all(dim=1)).sum()) for block in blocks)
        if wrong:
            problems.append(f"{wrong} rows of {name} hold numbers that are not finite")
    digests = torch.tensor(
        [
            int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "little", signed=True)
            for keys, prototypes in zip(
                bank.keys.split(_ROWS_AT_ONCE), bank.prototypes.split(_ROWS_AT_ONCE), strict=True
            )
            for row in torch.cat([keys, prototypes], dim=1).numpy()
        ],
        dtype=torch.int64,
    )
    twice = len(digests) - len(digests.unique())
    if twice:
        problems.append(f"{twice} rows stand there twice")
    return problems


def _halved(bank: PrototypeBank) -> PrototypeBank:
    """The same in half precision, in which all must be finite."""
    tables = {
        name: getattr(bank, name).detach().to("cpu", torch.float16).contiguous()
        for name in ("keys", "prototypes")
    }
    for name, table in tables.items():
        wrong = (~table.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if wrong:
            raise BankError(
                f"{len(wrong)} rows of {name}, such as {wrong[:5]}, are not finite in half "
                "precision (largest 65504); leave them out"
            )
    return replace(bank, **tables)


def _write(target: Path, banks: Sequence[PrototypeBank]) -> PrototypeBank:
    first = banks[0]
    for other in banks[1:]:
        _check_alike(first, other)
    if target.exists() and not target.is_dir():
        raise BankError(f"{target} is a file; a bank is a folder: give another name")
    target.mkdir(parents=True, exist_ok=True)
    old = {file.name for part in ("vectors", "records") for file in target.glob(f"{part}-*")}
    shapes = Shapes(
        rows=sum(map(len, banks)),
        key_width=first.keys.shape[1],
        prototype_width=first.prototypes.shape[1],
        half=first.keys.dtype == torch.float16,
    )
    checksums = {
        "vectors": copy_vectors(target, [(b.keys, b.prototypes) for b in banks], shapes),
        "records": copy_records(
            target, (asdict(record) for bank in banks for record in bank.records())
        ),
    }
    header = {
        "format": FORMAT,
        "version": VERSION,
        "kind": asdict(first.kind),
        "rows": shapes.rows,
        "key_width": shapes.key_width,
        "prototype_width": shapes.prototype_width,
        "type": "F16" if shapes.half else "F32",
        "checksums": checksums,
    }
    with written_whole(target / HEADER) as temporary:
        temporary.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    current = {named(target, part, digest).name for part, digest in checksums.items()}
    for name in old - current:
        (target / name).unlink(missing_ok=True)
    return PrototypeBank.open(target)


def _check_alike(first: PrototypeBank, other: PrototypeBank) -> None:
    for name, value in asdict(first.kind).items():
        theirs = getattr(other.kind, name)
        if theirs != value:
            raise BankError(
                f"banks of different {name}s cannot be joined: {value!r} and {theirs!r}; build "
                "one of them again as the other was"
            )
    for name in ("keys", "prototypes"):
        ours, theirs = getattr(first, name), getattr(other, name)
        if ours.shape[1] != theirs.shape[1] or ours.dtype != theirs.dtype:
            raise BankError(
                f"{name} of {ours.shape[1]} x {ours.dtype} and {theirs.shape[1]} x "
                f"{theirs.dtype} cannot be joined; the banks are of different encoders"
            )


def _read_header(folder: Path) -> dict[str, Any]:
    """The header, with everything in it of the right type."""
    path = folder / HEADER
    try:
        if not path.is_file():
            raise BankError(f"no bank at {str(folder)!r}: it has no {HEADER}; check the path")
        if path.stat().st_size > LARGEST_HEADER:
            raise BankError(f"{path} is larger than a header can be; get the bank again")
        header = parse_object(path.read_bytes())
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


def _check_vectors(file: Path, header: Mapping[str, Any]) -> None:
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


def _lines(file: Path) -> Iterator[bytes]:
    try:
        yield from read_lines(file, LARGEST_LINE)
    except (OSError, ValueError) as error:
        raise BankError(f"the bank's records cannot be read: {error}; get it again") from error


def _record(line: bytes, number: int) -> Record:
    try:
        row = parse_object(line)
        record = Record(**row)
    except (ValueError, TypeError) as error:
        raise BankError(f"record {number} is damaged: {error}; get the bank again") from error
    texts = (record.word, record.caption, record.source)
    if not all(isinstance(text, str) for text in texts) or not (
        record.seed is None or type(record.seed) is int
    ):
        raise BankError(f"record {number} is damaged: a field is of the wrong type")
    return record
