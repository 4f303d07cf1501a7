"""Pairs in tar shards."""

import logging
import os
import tarfile

import pytest

from lexiseg.data.captions import read_captions
from lexiseg.data.captions.shards import find_shards
from tests.data.tars import listed, picture, write_tar


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
    assert [p.name for p in tar.parent.iterdir() if p.suffix == ".part"] == []


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
