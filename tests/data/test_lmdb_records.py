"""The databases of the CRIS authors."""

import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import lmdb
import numpy as np
import pytest
from PIL import Image

from lexiseg._checkpoint.records import UnsafeCheckpointError
from lexiseg.data.referring import read_lmdb
from lexiseg.encoders.tokenizer import tokenize
from tests.data.squares import Command
from tests.parity import SOURCES, cases


def png(size):
    buffer = io.BytesIO()
    Image.new("L", size[::-1]).save(buffer, "PNG")
    return buffer.getvalue()


def write_database(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        lmdb.open(str(path), subdir=False, map_size=2**24) as database,
        database.begin(write=True) as transaction,
    ):
        for key, value in entries.items():
            transaction.put(key, value)
    return path


def recorded_entries(case):
    return {
        str(case[f"key_{i}"]).encode(): case[f"value_{i}"].tobytes()
        for i in range(sum(key.startswith("key_") for key in case))
    }


@pytest.mark.parametrize("source", SOURCES)
def test_cris_parity_lmdb_records(tmp_path, source):
    case = cases("cris", source).open("lmdb_records.npz")
    masks = tmp_path / "masks"
    masks.mkdir()
    for index, name in enumerate(case["val_mask_file"].tolist()):
        (masks / name).write_bytes(case[f"mask_png_{index}"].tobytes())
    path = write_database(tmp_path / "refcoco" / "train.lmdb", recorded_entries(case))
    dataset = read_lmdb(path)
    assert (dataset.name, dataset.split, len(dataset)) == ("refcoco", "train", 3)
    assert sum(len(each.read_expressions()) for each in dataset.references) == 6
    outside = read_lmdb(path, masks)
    for index in range(3):
        sample = dataset[index]
        assert list(sample.mask.shape) == case["val_ori_size"][index].tolist()
        assert f"{sample.name}.png" == case["val_mask_file"][index]
        np.testing.assert_array_equal(outside[index].mask, sample.mask)
        ids = tokenize(sample.expressions[:1], context_length=17)
        np.testing.assert_array_equal(ids[0], case["val_word_ids"][index])
    # The first fits the input of 64 without a change of scale: 8 rows above and below.
    np.testing.assert_array_equal(dataset[0].mask, case["train_mask"][0, 8:56] == 1)
    assert dataset[0].expressions == ("left cat", "the cat on the left", "kitty")
    assert dataset.fingerprint() != outside.fingerprint()


@pytest.fixture
def entries():
    entries = recorded_entries(cases("cris", "compact").open("lmdb_records.npz"))
    return {key: pickle.loads(value) for key, value in entries.items()}


def dump(entries):
    return {key: pickle.dumps(value, protocol=5) for key, value in entries.items()}


def test_masks_beside_the_database_count_when_they_are_asked_for(tmp_path, entries):
    path = write_database(tmp_path / "d" / "val.lmdb", dump(entries))
    with pytest.raises(ValueError, match="masks is missing; it holds the masks, named after"):
        read_lmdb(path, tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    dataset = read_lmdb(path, tmp_path / "masks")
    with pytest.raises(ValueError, match=r"record '0': .*100\.png: no such file"):
        dataset[0]
    Image.new("L", (64, 48), 255).save(tmp_path / "masks" / "100.png")
    assert dataset[0].mask.all()


def test_databases_of_pyarrow_are_told(tmp_path):
    old = {b"__keys__": b"\x00\x00\x00\x00\x01", b"__len__": b"\x00\x00\x00\x00\x01"}
    path = write_database(tmp_path / "val.lmdb", old)
    with pytest.raises(ValueError, match=r"pyarrow\.serialize, .*again with .*folder2lmdb\.py"):
        read_lmdb(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({b"__keys__": None}, "record '__keys__' is missing"),
        ({b"__keys__": 3}, "its list of records is no list of keys"),
        ({b"__keys__": ["0"]}, "its list of records is no list of keys"),
        ({b"__len__": 2}, "it lists 3 records, but counts 2"),
        ({b"__keys__": [], b"__len__": 0}, "has no references"),
    ],
)
def test_other_databases_are_told(tmp_path, entries, changes, message):
    entries = {key: value for key, value in (entries | changes).items() if value is not None}
    path = write_database(tmp_path / "val.lmdb", dump(entries))
    with pytest.raises(ValueError, match=message):
        read_lmdb(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seg_id": "../../x"}, r"record '0': seg_id is '\.\./\.\./x'"),
        ({"img": None}, "record '0': img is no picture but None"),
        ({"img": b"GIF"}, "record '0': the bytes: "),
        ({"mask": png((5, 5))}, r"record '0': the mask of 100: a mask of \(5, 5\)"),
        ({"mask": []}, r"record '0': mask is no picture but \[\]"),
        ({"sents": []}, "record '0': has no expression"),
        ({"sents": [b"x"]}, "record '0': an expression is b'x'"),
    ],
)
def test_damaged_records_are_told(tmp_path, entries, changes, message):
    entries[b"0"] |= changes
    dataset = read_lmdb(write_database(tmp_path / "val.lmdb", dump(entries)))
    assert dataset[1].name == "101"
    with pytest.raises(ValueError, match=message):
        dataset[0]


def test_records_that_are_no_dictionary_or_are_gone(tmp_path, entries):
    entries[b"0"] = [1]
    del entries[b"1"]
    dataset = read_lmdb(write_database(tmp_path / "val.lmdb", dump(entries)))
    with pytest.raises(ValueError, match="record '0' is no dictionary"):
        dataset[0]
    with pytest.raises(ValueError, match="record '1' is missing"):
        dataset[1]


def test_no_code_of_a_database_is_run(tmp_path, entries):
    canary = tmp_path / "canary"
    entries[b"0"]["cat"] = Command(canary)
    dataset = read_lmdb(write_database(tmp_path / "val.lmdb", dump(entries)))
    with pytest.raises(UnsafeCheckpointError, match="record '0': the file asks for .*system"):
        dataset[0]
    assert not canary.exists()


def test_files_that_are_no_database(tmp_path):
    with pytest.raises(ValueError, match=r"val\.lmdb is missing; give a database"):
        read_lmdb(tmp_path / "val.lmdb")
    (tmp_path / "val.lmdb").write_bytes(b"x" * 10_000)
    with pytest.raises(ValueError, match=r"val\.lmdb cannot be read \(.*not an LMDB file"):
        read_lmdb(tmp_path / "val.lmdb")


def test_a_database_is_read_from_many_threads(tmp_path, entries):
    dataset = read_lmdb(write_database(tmp_path / "val.lmdb", dump(entries)))
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda i: dataset[i % 3].name, range(60)))
    assert names == ["100", "101", "102"] * 20
