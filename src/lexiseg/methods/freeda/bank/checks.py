"""What a bank is, and what is wrong with one."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from lexiseg.methods.freeda.bank.files import ROWS_AT_ONCE, checksum, named
from lexiseg.methods.freeda.bank.reading import BankError, read_bank_header
from lexiseg.methods.freeda.bank.table import PrototypeBank


def info(path: str | Path) -> dict[str, Any]:
    """What a bank is, from its header alone: rows, widths, kind, size in bytes."""
    folder = Path(path)
    header = read_bank_header(folder)
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
        header = read_bank_header(folder)
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
        blocks = table.split(ROWS_AT_ONCE)
        wrong = sum(int((~block.isfinite().all(dim=1)).sum()) for block in blocks)
        if wrong:
            problems.append(f"{wrong} rows of {name} hold numbers that are not finite")
    digests = torch.tensor(
        [
            int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "little", signed=True)
            for keys, prototypes in zip(
                bank.keys.split(ROWS_AT_ONCE), bank.prototypes.split(ROWS_AT_ONCE), strict=True
            )
            for row in torch.cat([keys, prototypes], dim=1).numpy()
        ],
        dtype=torch.int64,
    )
    twice = len(digests) - len(digests.unique())
    if twice:
        problems.append(f"{twice} rows stand there twice")
    return problems
