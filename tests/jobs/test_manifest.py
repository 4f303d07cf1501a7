import json
from pathlib import Path

import pytest

from lexiseg.jobs.manifest import Entry, Manifest, MixedJobs, read_manifest, remove_results

SETTINGS = {"labels": {"猫": ["猫", "cat"]}, "weights": "abc"}


def entry(photo: str, state: str, size: int = 1) -> Entry:
    return Entry(photo, size, 2, state, {"labels": f"{photo}_labels.png"})


def test_a_torn_line_is_cut_off_and_written_anew(tmp_path: Path) -> None:
    with Manifest(tmp_path, SETTINGS) as manifest:
        for state in ("begun", "done", "begun"):
            manifest.write(entry("bad\udcff \u2028\r.jpg", state))
    data = manifest.file.read_bytes()
    for cut in range(len(data)):
        manifest.file.write_bytes(data[:cut])
        with Manifest(tmp_path, SETTINGS) as again:
            assert len(again.entries) <= 1
            again.write(entry("b.jpg", "done"))
        settings, entries = read_manifest(manifest.file)
        assert settings == again.settings
        assert entries[-1] == entry("b.jpg", "done")
        assert len(entries) == max(0, data[:cut].count(b"\n") - 1) + 1


def test_parts_are_read_together_and_the_best_counts(tmp_path: Path) -> None:
    with Manifest(tmp_path, SETTINGS, shard=(0, 2)) as one:
        one.write(entry("a.jpg", "begun"))
        one.write(entry("b.jpg", "done", size=5))
    with Manifest(tmp_path, SETTINGS) as whole:
        assert whole.entries["a.jpg"].state == "begun"
        whole.write(entry("a.jpg", "done"))
        whole.write(entry("b.jpg", "done", size=6))
        whole.finish()
    with Manifest(tmp_path, SETTINGS, shard=(0, 2)) as one:
        assert one.entries["a.jpg"].state == "done"
        assert one.entries["b.jpg"].size == 5  # its own, of two of one state
    with pytest.raises(MixedJobs, match='whose weights was "abc" and is now "xyz"'):
        Manifest(tmp_path, {**SETTINGS, "weights": "xyz"}).__enter__()


def test_only_the_last_word_stays_in_the_order_of_names(tmp_path: Path) -> None:
    with Manifest(tmp_path, SETTINGS) as manifest:
        for photo, state in (("b", "begun"), ("b", "done"), ("a", "failed"), ("c", "begun")):
            manifest.write(entry(photo, state))
        manifest.finish()
    settings, *lines = manifest.file.read_text(encoding="utf-8").splitlines()
    assert "猫" in settings
    assert [(json.loads(line)["photo"], json.loads(line)["state"]) for line in lines] == [
        ("a", "failed"),
        ("b", "done"),
    ]


def test_a_manifest_that_leads_outside_removes_nothing(tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim.png"
    out.mkdir()
    victim.touch()
    with Manifest(out, SETTINGS) as manifest:
        manifest.write(Entry("a", 1, 2, "done", {"labels": "../victim.png"}))
    with pytest.raises(ValueError, match="leads outside"):
        remove_results(out)
    assert victim.exists()


@pytest.mark.parametrize("text", ["notes\n", "{}\n", '{"manifest": "lexiseg job 9"}\n', "[1]\n"])
def test_a_file_that_is_no_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / "lexiseg_manifest.jsonl").write_text(text)
    with pytest.raises(ValueError, match="is no manifest of this version"):
        Manifest(tmp_path, SETTINGS).__enter__()
    assert (tmp_path / "lexiseg_manifest.jsonl").read_text() == text
