import io
import itertools
import json
import logging
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader

from lexiseg.data.captions import read_captions, shrink
from lexiseg.data.captions.files import Texts
from lexiseg.data.captions.shards import find_shards
from lexiseg.superpixels import SuperpixelCache, superpixels

CLOCK = itertools.count(10**18)


def picture(colour, kind="PNG", size=(12, 10)):
    """The bytes of a picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def write_tar(path, members, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    os.utime(
        path, ns=(0, next(CLOCK))
    )  # two tars made in one tick of the real clock may be as long
    return path


def listed(source, **arguments):
    """Name, caption and first pixel of every pair."""
    dataset = read_captions(source, **arguments)
    return [(s.name, s.caption, tuple(s.image[0, 0].tolist())) for s in dataset]


@pytest.fixture
def tar(tmp_path):
    """Three samples: a txt, a json with two captions, and both kinds of text."""
    folder = tmp_path / "tars"
    folder.mkdir()
    return write_tar(
        folder / "cc-000.tar",
        [
            ("a/000.png", picture("red")),
            ("a/000.txt", b" a red wall \n"),
            ("001.json", json.dumps({"caption": ["green", "a lawn"]}).encode()),
            ("001.PNG", picture((0, 200, 0))),
            ("002.txt", "blaues Tuch – 蓝".encode()),
            ("002.json", b'{"caption": "not this one", "width": 12}'),
            ("002.webp", picture("blue", "WEBP", (30, 20))),
        ],
    )


def test_members_of_a_key_make_one_pair_a_caption(tar):
    dataset = read_captions(tar)
    assert len(dataset) == 4
    assert listed(tar)[:3] == [
        ("a/000", "a red wall", (255, 0, 0)),
        ("001", "green", (0, 200, 0)),
        ("001", "a lawn", (0, 200, 0)),
    ]
    assert dataset[3].name == "002"
    assert dataset[3].caption == "blaues Tuch – 蓝"
    assert dataset[-1].image.shape == (20, 30, 3)
    assert dataset[3].superpixels is None
    with pytest.raises(IndexError):
        dataset[4]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_odd_names_are_only_names(tmp_path, form):
    long = "folder/" * 12 + "x" * 90
    names = ["../../up", "/root/at", "dir.with.dots/k", "schlüssel", "two\nlines", "sp ace", long]
    if form == tarfile.USTAR_FORMAT:
        names.remove(long)
    link = tarfile.TarInfo("link.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    folder = tarfile.TarInfo("folder.png")
    folder.type = tarfile.DIRTYPE
    odd = [
        ("", link),
        ("", folder),
        (".hidden.png", b"?"),
        ("._k.png", b"?"),
        ("noextension", b"?"),
    ]
    odd += [("k.seg.png", b"?"), ("k.cls", b"3")]
    pairs = [
        member
        for number, name in enumerate(names)
        for member in ((f"{name}.jpg", picture("red", "JPEG")), (f"{name}.txt", b"no. %d" % number))
    ]
    inside = tmp_path / "inside"
    inside.mkdir()
    path = write_tar(inside / "s.tar", odd + pairs, form)
    found = [(name, caption) for name, caption, _ in listed(path, index_folder=tmp_path / "index")]
    assert found == [(name.lstrip(), f"no. {number}") for number, name in enumerate(names)]
    assert list(inside.iterdir()) == [path]
    assert {p.name for p in tmp_path.iterdir()} == {"inside", "index"}


def test_shards_are_found_by_pattern_folder_and_list(tmp_path):
    for number in range(8, 12):
        write_tar(
            tmp_path / f"cc-{number:05}.tar",
            [("k.jpg", picture("red", "JPEG")), ("k.txt", b"%d" % number)],
        )
    pattern = str(tmp_path / "cc-{00008..00011}.tar")
    assert [caption for _, caption, _ in listed(pattern)] == ["8", "9", "10", "11"]
    assert find_shards(pattern) == find_shards(tmp_path) == find_shards([pattern])
    assert [
        p.name for p in find_shards([tmp_path / "cc-00009.tar", tmp_path / "cc-00008.tar"])
    ] == [
        "cc-00009.tar",
        "cc-00008.tar",
    ]
    with pytest.raises(ValueError, match=r"2 of 6 shards are missing, the first .*cc-00012\.tar"):
        find_shards(str(tmp_path / "cc-{00008..00013}.tar"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"empty holds no pairs; allowed are tar shards \(\*\.tar\)"
    ):
        read_captions(tmp_path / "empty")


@pytest.mark.parametrize("pattern", ["x-{0..999999999999}.tar", "{0..9999}/{0..9999}.tar"])
def test_a_pattern_stands_for_a_million_shards_at_most(pattern):
    with pytest.raises(ValueError, match=r"\.tar stands for 10+ shards; at most 1000000 go"):
        find_shards(pattern)


def test_two_ranges_in_a_pattern():
    with pytest.raises(ValueError, match=r"4 of 4 shards are missing, the first x9/a7\.tar"):
        find_shards("x{9..10}/a{7..8}.tar")


def test_the_index_is_made_once(tar, monkeypatch):
    before = listed(tar)
    index = tar.with_name("cc-000.tar.index.npz")
    assert index.is_file()
    opened = []
    real = tarfile.open
    monkeypatch.setattr(tarfile, "open", lambda *a, **k: opened.append(a) or real(*a, **k))
    assert listed(tar) == before
    assert opened == []
    index.write_bytes(index.read_bytes()[:-40])
    assert listed(tar) == before
    assert len(opened) == 1
    os.utime(tar, ns=(1, 1))
    assert listed(tar) == before
    assert len(opened) == 2
    assert listed(tar) == before
    assert len(opened) == 2
    write_tar(tar, [("new.png", picture("red")), ("new.txt", b"new")])
    opened.clear()
    assert listed(tar) == [("new", "new", (255, 0, 0))]
    assert len(opened) == 1
    assert [p.name for p in tar.parent.iterdir() if p.suffix == ".tmp"] == []


def test_an_index_may_lie_elsewhere_or_nowhere(tar, tmp_path, caplog):
    twin = tmp_path / "twin"
    twin.mkdir()
    other = write_tar(twin / tar.name, [("k.png", picture("red")), ("k.txt", b"other")])
    for _ in range(2):
        assert len(listed([tar, other], index_folder=tmp_path / "index")) == 5
    assert len(list((tmp_path / "index").iterdir())) == 2
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        assert len(listed(tar, index_folder=tmp_path / "file")) == 4
    assert "is indexed each time" in caplog.text
    assert list(tar.parent.iterdir()) == [tar]


def test_a_tar_that_changes_under_an_open_data_set_is_noticed(tar):
    dataset = read_captions(tar)
    write_tar(tar, [("new.png", picture("red")), ("new.txt", b"new")])
    with pytest.raises(ValueError, match=r"cc-000\.tar was changed after it was indexed"):
        dataset[0]


@pytest.mark.parametrize("image", [b"", b"no picture", picture("red")[:40]])
def test_a_damaged_image_names_shard_and_key(tmp_path, image):
    path = write_tar(tmp_path / "s.tar", [("a/k.png", image), ("a/k.txt", b"red")])
    dataset = read_captions(path)
    with pytest.raises(ValueError, match=r"s\.tar: the image of 'a/k' cannot be used: the bytes"):
        dataset[0]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("k.txt", b"caf\xe9", "cannot be read .*a caption is a txt in UTF-8"),
        ("k.json", b"{", "cannot be read .*in a json"),
        ("k.json", b"[" * 100_000, "cannot be read .*in a json"),
        ("k.json", b'["a"]', "cannot be read .*in a json"),
        ("k.json", b'{"caption": 7}', "has another kind of caption"),
        ("k.json", b'{"caption": ["a", null]}', "has another kind of caption"),
        ("k.txt", b"a" * (1 << 20) + b"a", "is too large; .*at most 1048576 bytes"),
    ],
)
def test_a_damaged_caption_names_shard_and_member(tmp_path, name, content, problem):
    path = write_tar(tmp_path / "s.tar", [("k.png", picture("red")), (name, content)])
    with pytest.raises(ValueError, match=rf"s\.tar: '{name}' {problem}"):
        read_captions(path)


def test_samples_that_lack_something_are_left_out_aloud(tmp_path, caplog):
    path = write_tar(
        tmp_path / "s.tar",
        [
            ("whole.png", picture("red")),
            ("whole.txt", b"red"),
            ("no_text.png", picture("red")),
            ("no_image.txt", b"red"),
            ("blank.png", picture("red")),
            ("blank.txt", b" \n"),
            ("null.png", picture("red")),
            ("null.json", b'{"caption": null}'),
        ],
    )
    with caplog.at_level(logging.WARNING):
        assert [name for name, _, _ in listed(path)] == ["whole"]
    assert (
        "4 of 5 samples have no image or no caption and are left out, one is 'blank'" in caplog.text
    )


def test_a_member_twice_is_refused(tmp_path):
    path = write_tar(
        tmp_path / "s.tar", [("k.png", picture("red")), ("k.txt", b"a"), ("k.txt", b"b")]
    )
    with pytest.raises(ValueError, match=r"s\.tar: 'k\.txt' is there twice"):
        read_captions(path)


def test_a_tar_without_pairs_is_refused(tmp_path):
    path = write_tar(tmp_path / "s.tar", [("k.txt", b"a")])
    with pytest.raises(ValueError, match=r"s\.tar holds no image with a caption; a sample is KEY"):
        read_captions(path)


def test_a_tar_cut_off_anywhere_is_refused(tar):
    content = tar.read_bytes()
    with tarfile.open(tar) as opened:
        end = opened.getmembers()[-1].offset_data + 512 * (-(-opened.getmembers()[-1].size // 512))
    for length in (*range(0, end, 256), end, end + 511):
        tar.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cc-000\.tar is cut off or damaged"):
            read_captions(tar)
    tar.write_bytes(content[: end + 512])
    assert len(read_captions(tar)) == 4


def test_a_damaged_header_is_no_end(tar):
    with tarfile.open(tar) as opened:
        offset = opened.getmembers()[3].offset
    content = bytearray(tar.read_bytes())
    content[offset + 3] ^= 1
    tar.write_bytes(content)
    with pytest.raises(ValueError, match=rf"cut off or damaged .*at byte {offset}"):
        read_captions(tar)


def test_a_negative_size_does_not_hang(tmp_path):
    info = tarfile.TarInfo("k.png")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (256**12 - 512).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "s.tar").write_bytes(bytes(header) + bytes(2048))
    with pytest.raises(ValueError, match=r"s\.tar is cut off or damaged \('k\.png' goes beyond"):
        read_captions(tmp_path / "s.tar")


@pytest.mark.parametrize(
    ("kind", "command"), [("gz", "gunzip"), ("bz2", "bunzip2"), ("xz", "unxz")]
)
def test_compressed_tars_are_refused_whatever_their_name(tmp_path, kind, command):
    for name in (f"s.tar.{kind}", "s.tar"):
        folder = tmp_path / name
        folder.mkdir()
        with tarfile.open(folder / name, f"w:{kind}"):
            pass
        with pytest.raises(ValueError, match=rf"is compressed.*unpack it first: {command} {name}"):
            read_captions(folder)


def test_several_worker_processes_read_the_same(tar, tmp_path):
    (tmp_path / "own" / "images").mkdir(parents=True)
    (tmp_path / "own" / "images" / "p.png").write_bytes(picture("red", size=(40, 50)))
    rows = {"p": {"captions": ["one", "two", "three"]}}
    (tmp_path / "own" / "captions.json").write_text(json.dumps(rows))
    cache = SuperpixelCache(tmp_path / "cache")
    dataset = ConcatDataset(
        [read_captions(source, superpixels=cache) for source in (tar, tmp_path / "own")]
    )
    direct = [dataset[index] for index in reversed(range(7))][::-1]
    for context in (None, "spawn"):
        loader = DataLoader(
            dataset,
            batch_size=3,
            shuffle=False,
            num_workers=2,
            collate_fn=list,
            multiprocessing_context=context,
        )
        loaded = [sample for batch in loader for sample in batch]
        for one, other in zip(loaded, direct, strict=True):
            assert (one.name, one.caption) == (other.name, other.caption)
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.superpixels, other.superpixels)


def test_the_fingerprint_follows_the_pairs_and_their_preparation(tar, tmp_path):
    dataset = read_captions(tar)
    first = dataset.fingerprint()
    assert pickle.loads(pickle.dumps(dataset)).fingerprint() == first
    os.utime(tar, ns=(1, 1))
    assert read_captions(tar).fingerprint() == first
    others = {
        first,
        read_captions(tar, shorter=8).fingerprint(),
        read_captions(tar, superpixels=SuperpixelCache(tmp_path)).fingerprint(),
        read_captions(tar, superpixels=SuperpixelCache(tmp_path, min_size=5)).fingerprint(),
    }
    write_tar(tar, [("k.png", picture("red")), ("k.txt", b"another")])
    others.add(read_captions(tar).fingerprint())
    assert len(others) == 5


def test_superpixels_are_those_of_the_shrunken_photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 81, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path = write_tar(tmp_path / "s.tar", [("k.png", buffer.getvalue()), ("k.txt", b"noise")])
    cache = SuperpixelCache(tmp_path / "cache", min_size=20)
    sample = read_captions(path, shorter=40, superpixels=cache)[0]
    assert sample.image.shape == (40, 54, 3)
    expected = Image.fromarray(pixels).resize((54, 40), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(sample.image, np.asarray(expected))
    np.testing.assert_array_equal(sample.superpixels, superpixels(sample.image, min_size=20))


@pytest.mark.parametrize(
    ("size", "shrunken"),
    [
        ((448, 667), (224, 333)),
        ((667, 448), (333, 224)),
        ((500, 500), (224, 224)),
        ((224, 900), (224, 900)),
        ((100, 900), (100, 900)),
        ((225, 225), (224, 224)),
    ],
)
def test_shrinking_keeps_the_ratio_and_never_enlarges(size, shrunken):
    assert shrink(np.zeros((*size, 3), np.uint8), 224).shape == (*shrunken, 3)


def test_texts_come_back():
    texts = ["", "a", "ü蓝", "", "x" * 300, "lone \ud800"]
    kept = Texts.of(texts)
    assert list(kept) == [*texts[:-1], "lone ?"]
    assert len(Texts.of([])) == 0


@pytest.fixture
def coco(tmp_path):
    """Two photographs of train2014 and one of val2014, with both kinds of JSON."""
    names = ["train2014/c1.jpg", "train2014/c2.jpg", "val2014/c3.jpg"]
    for name, colour in zip(names, ("red", "blue", "white"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture(colour, "PNG"))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_train2014.json").write_text(
        json.dumps(
            {
                "images": [{"id": 7, "file_name": "c2.jpg"}, {"id": 5, "file_name": "c1.jpg"}],
                "annotations": [
                    {"id": 1, "image_id": 5, "caption": "Red.\n"},
                    {"id": 2, "image_id": 7, "caption": "Blue."},
                    {"id": 3, "image_id": 5, "caption": "A red one."},
                ],
            }
        )
    )
    rows = [
        {
            "split": split,
            "filepath": name.split("/")[0],
            "filename": name.split("/")[1],
            "sentences": [{"raw": f"{split} {number}", "tokens": []} for number in range(2)],
        }
        for name, split in zip(names, ("train", "restval", "val"), strict=True)
    ]
    (tmp_path / "karpathy").mkdir()
    karpathy = {"images": rows, "dataset": "coco"}
    (tmp_path / "karpathy" / "dataset_coco.json").write_text(json.dumps(karpathy))
    return tmp_path


def test_captions_of_coco(coco):
    path = coco / "annotations" / "captions_train2014.json"
    expected = [
        ("c2", "Blue.", (0, 0, 255)),
        ("c1", "Red.", (255, 0, 0)),
        ("c1", "A red one.", (255, 0, 0)),
    ]
    assert listed(path) == listed(str(path), images=coco / "train2014") == expected
    with pytest.raises(ValueError, match="has no split 'train'; it has none, leave it out"):
        read_captions(path, split="train")


def test_splits_of_karpathy(coco):
    path = coco / "karpathy" / "dataset_coco.json"
    red = (255, 0, 0)
    assert listed(path, split="train") == [("c1", "train 0", red), ("c1", "train 1", red)]
    assert len(read_captions(path)) == 6
    with pytest.raises(ValueError, match=r"no split 'test'; it has \['restval', 'train', 'val'\]"):
        read_captions(path, split="test")


def test_photographs_that_are_missing_are_named(coco):
    path = coco / "karpathy" / "dataset_coco.json"
    (coco / "val2014" / "c3.jpg").unlink()
    assert len(read_captions(path, split="train")) == 2
    with pytest.raises(ValueError, match=r"dataset_coco\.json: 1 photographs are missing.*c3\.jpg"):
        read_captions(path)
    (coco / "train2014" / "c1.jpg").unlink()
    with pytest.raises(
        ValueError, match=r"'train2014/c1\.jpg' is not near it; say where by images"
    ):
        read_captions(path)
    with pytest.raises(ValueError, match=r"missing, the first .*nowhere.*c1\.jpg"):
        read_captions(path, images=coco / "nowhere")


@pytest.mark.parametrize("name", ["../c1.jpg", "/c1.jpg", "a/../../c1.jpg"])
def test_photographs_outside_the_folder_are_refused(coco, name):
    path = coco / "annotations" / "captions_train2014.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="leads outside of"):
        read_captions(path, images=coco / "train2014")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"images": [{"id": 1}], "annotations": []}',
        '{"images": [], "annotations": [{"image_id": 3, "caption": "x"}]}',
        '{"images": [{"split": "train", "filename": "x.jpg", "sentences": [{"tokens": []}]}]}',
        '{"images": [{"split": "train", "filename": "x.jpg", "sentences": [{"raw": 3}]}]}',
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, text):
    path = tmp_path / "captions_train2014.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"captions_train2014\.json cannot be (read|understood)"):
        read_captions(path)


def test_a_file_without_captions_or_without_itself(tmp_path):
    (tmp_path / "c.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match=r"c\.json holds no captions"):
        read_captions(tmp_path / "c.json")
    with pytest.raises(ValueError, match=r"d\.json is missing"):
        read_captions(tmp_path / "d.json")


@pytest.fixture
def folder(tmp_path):
    """captions.json with two splits."""
    for name in ("train/images/p0.png", "train/images/p1.png", "val/images/p2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture("red"))
    rows = {
        "p0": {"captions": ["a", "b"], "split": "train"},
        "p2": {"captions": ["c"], "split": "val"},
        "p1": {"captions": ["d"], "split": "train"},
    }
    (tmp_path / "captions.json").write_text(json.dumps(rows))
    return tmp_path


def test_a_folder_with_splits(folder):
    assert [row[:2] for row in listed(folder)] == [
        ("p0", "a"),
        ("p0", "b"),
        ("p2", "c"),
        ("p1", "d"),
    ]
    assert [row[1] for row in listed(folder, split="train")] == ["a", "b", "d"]
    with pytest.raises(ValueError, match=r"no split 'test'; it has \['train', 'val'\]"):
        read_captions(folder, split="test")


def test_a_folder_without_splits(folder, caplog):
    (folder / "train" / "images").rename(folder / "images")
    rows = {"p1": {"captions": ["one"]}, "p0": {"captions": [" "]}}
    (folder / "captions.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.WARNING):
        assert [row[:2] for row in listed(folder)] == [("p1", "one")]
    assert "1 photographs have no caption and are left out" in caplog.text


def test_what_a_folder_lacks_is_named(folder):
    (folder / "train" / "images" / "p1.png").unlink()
    with pytest.raises(
        ValueError, match=r"captions\.json: 1 photographs are missing, the first p1"
    ):
        read_captions(folder)
    (folder / "val" / "images").rename(folder / "val" / "pictures")
    with pytest.raises(ValueError, match=r"images is missing: it holds photographs of"):
        read_captions(folder, split="val")


@pytest.mark.parametrize(
    "text", ['{"p0": ["a"]}', '{"p0": {}}', '{"p0": {"captions": "a"}}', '["p0"]',
             '{"p0": {"captions": ["a"], "split": 3}}']
)  # fmt: skip
def test_captions_json_of_another_form_is_named(folder, text):
    (folder / "captions.json").write_text(text)
    with pytest.raises(ValueError, match=r"captions\.json cannot be understood"):
        read_captions(folder)


def test_shards_have_no_splits(tar):
    with pytest.raises(ValueError, match="tar shards have no splits, but split is 'train'"):
        read_captions(tar, split="train")


def test_words_are_those_of_the_pair_without_its_photograph(tmp_path):
    tars = [
        write_tar(tmp_path / f"s{n}.tar", [(f"k{n}.png", b"no picture"), (f"k{n}.txt", b"said")])
        for n in range(2)
    ]
    pairs = read_captions(tars).pairs
    assert [pairs.words(index) for index in range(2)] == [("said", "k0"), ("said", "k1")]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"no picture")
    said = {"a": {"captions": ["one", "two"]}}
    (tmp_path / "captions.json").write_text(json.dumps(said))
    pairs = read_captions(tmp_path).pairs
    assert [pairs.words(index) for index in range(2)] == [("one", "a"), ("two", "a")]
