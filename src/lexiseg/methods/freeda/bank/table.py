"""The bank as a table: keys and prototypes, opened, written, extended and joined."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lexiseg.atomic import write_atomically
from lexiseg.methods.freeda.bank.files import HEADER, Shapes, copy_records, copy_vectors, named
from lexiseg.methods.freeda.bank.reading import (
    FORMAT,
    VERSION,
    BankError,
    BankKind,
    Record,
    check_vectors,
    read_bank_header,
    read_records,
)


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

        Types and shapes are checked; ``verify`` of checks.py checks all that is inside.

        Raises:
            BankError: there is no bank, or it is damaged.
        """
        folder = Path(path)
        header = read_bank_header(folder)
        file = named(folder, "vectors", header["checksums"]["vectors"])
        check_vectors(file, header)
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
        header = read_bank_header(self.path)
        file = named(self.path, "records", header["checksums"]["records"])
        count = 0
        for record in read_records(file):
            count += 1
            yield record
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
    return _write(Path(path), [_halved(PrototypeBank(keys, prototypes, kind, kept=tuple(records)))])


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
    added = _halved(PrototypeBank(keys, prototypes, kind, kept=tuple(records)))
    return _write(Path(path), [PrototypeBank.open(path), added])


def merge(paths: Sequence[str | Path], target: str | Path) -> PrototypeBank:
    """Join banks of one kind, in the order they are given; no more than a block is in memory.

    Raises:
        BankError: no bank came, one is damaged, or they differ in kind, widths or precision.
    """
    if not paths:
        raise BankError("no banks came; give at least one to merge")
    return _write(Path(target), [PrototypeBank.open(path) for path in paths])


def _halved(bank: PrototypeBank) -> PrototypeBank:
    """The same in half precision, in which all must be finite, with a record for each row."""
    if len(bank.kept) != len(bank):
        raise BankError(f"{len(bank.kept)} records for {len(bank)} rows; give one a row")
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
    write_atomically(target / HEADER, (json.dumps(header, indent=1) + "\n").encode())
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
