from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lexiseg.evaluation.journal import Journal

ITEMS = {0: [[1, 2], [3, 4]], 7: [[], []], 3: [[5], [2**40]]}


def filled(folder: Path, subject: str = "model") -> Journal:
    journal = Journal(folder, subject)
    with journal:
        for index, item in ITEMS.items():
            journal.write(index, item)
    return journal


def test_what_was_written_is_read(tmp_path: Path) -> None:
    filled(tmp_path / "new")
    assert Journal(tmp_path / "new", "model").read_all() == ITEMS


def test_several_processes_are_read_together(tmp_path: Path) -> None:
    filled(tmp_path)
    with Journal(tmp_path, "model") as other:
        other.write(9, [[1], [1]])
        assert other.read_all() == {**ITEMS, 9: [[1], [1]]}


def test_subjects_do_not_mix(tmp_path: Path) -> None:
    filled(tmp_path, "model[1]*")
    filled(tmp_path, "model1")
    Journal(tmp_path, "model[1]*").remove_all()
    assert Journal(tmp_path, "model[1]*").read_all() == {}
    assert Journal(tmp_path, "model1").read_all() == ITEMS


def test_a_journal_that_is_not_open_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not open"):
        Journal(tmp_path, "model").write(0, [[]])


@given(st.data())
def test_a_file_cut_or_damaged_anywhere_gives_only_what_is_whole(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journals")
    journal = filled(folder)
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        file.write_bytes(bytes(content[:place]))
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        file.write_bytes(bytes(content))
    found = journal.read_all()
    whole = bytes(content[:place]).count(b"\n")
    assert found == dict(list(ITEMS.items())[:whole])
