from pathlib import Path

import pytest

from lexiseg.atomic import place_in, put, write_atomically, written_whole


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def stopped(path: Path) -> None:
    with written_whole(path) as temporary:
        temporary.write_bytes(b"other")
        raise KeyboardInterrupt


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with written_whole(path) as temporary:
        assert not temporary.exists()
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
    assert path.read_bytes() == b"half"
    with pytest.raises(KeyboardInterrupt):
        stopped(path)
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 240)  # no name beside it may be longer than a disk allows
    with written_whole(path) as one, written_whole(path) as other:
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"  # which was done last
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_takes_away_what_it_left_and_follows_no_link(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "a.json"
    victim.write_bytes(b"mine")
    (tmp_path / ".a.json.part").symlink_to(victim)
    write_atomically(path, b"new", part="a.json")
    assert victim.read_bytes() == b"mine"
    (tmp_path / ".a.json.part").write_bytes(b"of a killed one")
    write_atomically(path, b"newer", part="a.json")
    assert path.read_bytes() == b"newer"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.json", "victim"]


def test_a_name_that_is_known_at_the_end(tmp_path: Path) -> None:
    with place_in(tmp_path) as temporary:
        temporary.write_bytes(b"abc")
        put(temporary, tmp_path / "abc.bin")
    with place_in(tmp_path) as temporary:
        temporary.write_bytes(b"nobody's")
    assert [each.name for each in tmp_path.iterdir()] == ["abc.bin"]
