import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lexiseg.methods.freeda.bank import (
    BankError,
    BankKind,
    PrototypeBank,
    Record,
    append,
    info,
    merge,
    verify,
    write_bank,
)

KIND = BankKind("clip", "dino", "mean under the mask")


def rows(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[Record]]:
    noise = torch.Generator().manual_seed(seed)
    keys = torch.randn(count, 4, generator=noise)
    prototypes = torch.randn(count, 6, generator=noise)
    records = [Record(f"wörd {seed}.{i}", "a caption", i, "a.png") for i in range(count)]
    return keys, prototypes, records


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    keys, prototypes, records = rows(5)
    written = write_bank(tmp_path / "bank", keys, prototypes, records, KIND)
    bank = PrototypeBank.open(tmp_path / "bank")
    assert len(bank) == len(written) == 5
    assert bank.kind == KIND
    assert bank.keys.dtype == torch.float16
    assert torch.equal(bank.keys, keys.half())
    assert torch.equal(bank.prototypes, prototypes.half())
    assert list(bank.records()) == records
    assert bank.words[2] == "wörd 0.2"
    assert verify(tmp_path / "bank") == []
    facts = info(tmp_path / "bank")
    assert (facts["rows"], facts["key_width"], facts["prototype_width"]) == (5, 4, 6)
    assert facts["image_encoder"] == "dino"


def test_equal_rows_are_equal_bytes_however_they_came(tmp_path: Path) -> None:
    first, second = rows(3), rows(2, seed=1)
    together = (
        torch.cat([first[0], second[0]]),
        torch.cat([first[1], second[1]]),
        first[2] + second[2],
    )
    write_bank(tmp_path / "at_once", *together, KIND)
    append(tmp_path / "grown", *first, KIND)
    append(tmp_path / "grown", *second, KIND)
    write_bank(tmp_path / "a", *first, KIND)
    write_bank(tmp_path / "b", *second, KIND)
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "a")  # into one of them
    expected = contents(tmp_path / "at_once")
    assert len(expected) == 3
    for name in ("grown", "merged", "a"):
        assert contents(tmp_path / name) == expected


def test_an_open_bank_outlives_a_new_one_in_its_place(tmp_path: Path) -> None:
    keys, prototypes, records = rows(3)
    before = write_bank(tmp_path / "bank", keys, prototypes, records, KIND)
    append(tmp_path / "bank", *rows(2, seed=1), KIND)
    assert torch.equal(before.keys, keys.half())
    assert len(PrototypeBank.open(tmp_path / "bank")) == 5


def test_a_bank_of_no_rows(tmp_path: Path) -> None:
    bank = write_bank(tmp_path / "bank", *rows(0), KIND)
    assert len(bank) == 0
    assert verify(tmp_path / "bank") == []


def test_banks_of_different_kinds_are_not_joined(tmp_path: Path) -> None:
    write_bank(tmp_path / "a", *rows(3), KIND)
    other = BankKind("clip", "another", KIND.pooling)
    write_bank(tmp_path / "b", *rows(3), other)
    with pytest.raises(BankError, match="image_encoders cannot be joined: 'dino' and 'another'"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    keys, prototypes, records = rows(3)
    with pytest.raises(BankError, match="prototypes of 6 x torch.float16 and 5 x"):
        append(tmp_path / "a", keys, prototypes[:, :5], records, KIND)
    with pytest.raises(BankError, match="no banks came"):
        merge([], tmp_path / "c")


def test_rows_that_cannot_be_written(tmp_path: Path) -> None:
    keys, prototypes, records = rows(3)
    with pytest.raises(BankError, match="2 records for 3 rows"):
        write_bank(tmp_path / "a", keys, prototypes, records[:2], KIND)
    prototypes[1, 2] = 1e5
    with pytest.raises(BankError, match=r"1 rows of prototypes, such as \[1\], are not finite"):
        write_bank(tmp_path / "a", keys, prototypes, records, KIND)
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(BankError, match="is a file"):
        write_bank(tmp_path / "file", *rows(1), KIND)


def test_verify_finds_what_is_wrong_inside(tmp_path: Path) -> None:
    keys, prototypes, records = rows(3)
    twice = [torch.cat([keys, keys[:1]]), torch.cat([prototypes, prototypes[:1]])]
    write_bank(tmp_path / "bank", *twice, [*records, records[0]], KIND)
    assert verify(tmp_path / "bank") == ["1 rows stand there twice"]
    file = next((tmp_path / "bank").glob("vectors-*"))
    data = bytearray(file.read_bytes())
    data[-2:] = b"\x00\x7e"  # NaN in half precision
    file.write_bytes(data)
    problems = "\n".join(verify(tmp_path / "bank"))
    assert "has SHA-256" in problems
    assert "1 rows of prototypes hold numbers that are not finite" in problems


def header(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "bank.json").read_text())
        change(content)
        (folder / "bank.json").write_text(json.dumps(content))

    return apply


def file(part: str, data: bytes | None) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.glob(f"{part}*"))
        path.unlink() if data is None else path.write_bytes(data)

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        file("bank", None),
        file("bank", b"{"),
        file("bank", b"[" * 100_000),
        file("bank", b"[1]"),
        file("bank", b"\xff\xfe"),
        file("bank", b" " * (2**20 + 1)),
        file("vectors", None),
        file("vectors", b""),
        file("vectors", b"\xff" * 100),
        file("vectors", (2).to_bytes(8, "little") + b"{}"),
        file("records", None),
        file("records", b"{}\n"),
        file("records", b"not json\n" * 3),
        file("records", b'{"word": 1}\n' * 3),
        file("records", b'{"word": "a"}\n'),
        file("records", b'{"word": "a", "seed": true}\n' * 3),
        file("records", b'{"word": "' + b"a" * 2**17 + b'"}\n'),
        header(lambda c: c.update(version=2)),
        header(lambda c: c.update(format="other")),
        header(lambda c: c.update(rows=4)),
        header(lambda c: c.update(rows=-1)),
        header(lambda c: c.update(rows=True)),
        header(lambda c: c.update(type="F64")),
        header(lambda c: c.update(kind={"text_encoder": "a"})),
        header(lambda c: c.pop("checksums")),
        header(lambda c: c["checksums"].update(vectors="../../../etc/passwd")),
        header(lambda c: c["checksums"].update(vectors="0" * 64)),
    ],
)
def test_a_damaged_bank_is_an_error_of_one_kind(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    write_bank(tmp_path / "bank", *rows(3), KIND)
    damage(tmp_path / "bank")
    assert verify(tmp_path / "bank")
    with pytest.raises(BankError):
        list(PrototypeBank.open(tmp_path / "bank").records())


def test_a_truncated_file_of_vectors(tmp_path: Path) -> None:
    write_bank(tmp_path / "bank", *rows(3), KIND)
    file = next((tmp_path / "bank").glob("vectors-*"))
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(BankError, match="damaged"):
        PrototypeBank.open(tmp_path / "bank")
