import os

import pytest

from lexiseg.data.paths import check_all_there, inside, plain_name, read_listing, walk

OUTSIDE = ["../a", "/a", "a/../../b", "..", "C:\\a", "C:a", "\\a", "a\\..\\..\\b", ""]


@pytest.mark.parametrize("name", [*OUTSIDE, "a\0b", None, 3])
def test_names_that_lead_outside_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"list\.txt: "):
        inside(tmp_path, name, source="list.txt")
    with pytest.raises(ValueError, match=r"list\.txt: .* has no folders"):
        plain_name(name, source="list.txt")


@pytest.mark.parametrize("name", ["a", "a.jpg", "a b", "..a", "..."])
def test_plain_names_stay_as_they_are(tmp_path, name):
    assert plain_name(name, source="x") == name
    assert inside(tmp_path, name, source="x") == tmp_path / name


@pytest.mark.parametrize("name", ["a/b", "a/b/../c.jpg", "./a", "a/"])
def test_a_plain_name_has_no_folders(tmp_path, name):
    with pytest.raises(ValueError, match="has no folders"):
        plain_name(name, source="x")


def test_a_listing_names_a_photograph_a_line(tmp_path):
    path = tmp_path / "val.txt"
    path.write_bytes(b"\xef\xbb\xbf2007_1 1\r\n\r\n  2007_2\n")  # with a byte order mark
    assert read_listing(path) == ["2007_1", "2007_2"]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"val\.txt: is no text"):
        read_listing(path)
    with pytest.raises(ValueError, match=r"none\.txt: cannot be read \(No such file"):
        read_listing(tmp_path / "none.txt")


def test_links_to_folders_are_walked_through_once(tmp_path):
    (tmp_path / "disk" / "ulm").mkdir(parents=True)
    (tmp_path / "disk" / "ulm" / "a.png").touch()
    root = tmp_path / "val"
    root.mkdir()
    os.symlink(tmp_path / "disk" / "ulm", root / "ulm")
    os.symlink(root, tmp_path / "disk" / "ulm" / "back")
    assert [file.as_posix() for file in walk(root)] == ["ulm/a.png"]
    assert list(walk(tmp_path / "nowhere")) == []


def test_missing_files_are_counted_whatever_their_names(tmp_path):
    there, gone = tmp_path / "a", tmp_path / ("x" * 300)
    there.touch()
    check_all_there([there, there], source="s")
    with pytest.raises(ValueError, match="s: 1 of its files are missing, the first .*xxx"):
        check_all_there([there, gone, gone], source="s")
