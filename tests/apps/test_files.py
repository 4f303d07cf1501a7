import json
from pathlib import Path

from lexiseg.apps.files import once, output_names


def test_names_that_would_collide(tmp_path: Path) -> None:
    files = [Path(name) for name in ("a/x.jpg", "b/x.png", "c/X.png", "x-2.png", "x.labels.png")]
    names = output_names(files, tmp_path)
    assert list(names.values()) == ["x", "x-2", "X-3", "x-2-2", "x.labels"]
    clash = [tmp_path / "x.jpg", tmp_path / "x_labels.png"]
    assert output_names(clash, tmp_path) == {clash[0]: "x-2", clash[1]: "x_labels"}


def test_a_file_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    given = [tmp_path / "a.jpg", tmp_path / "link.jpg", tmp_path / "." / "a.jpg", Path("b.jpg")]
    assert once(given) == [tmp_path / "a.jpg", Path("b.jpg")]


def test_a_name_that_a_disk_hardly_holds(tmp_path: Path) -> None:
    photos = [tmp_path / f"{'x' * 250}.jpg", tmp_path / f"{'猫' * 83}.jpg"]
    names = output_names(photos, tmp_path)
    assert all(len(f"{name}_overlay.jpg".encode()) < 255 for name in names.values())
    assert len(set(names.values())) == 2


def test_files_that_are_not_this_photos_results_are_left_alone(tmp_path: Path) -> None:
    photo, out = tmp_path / "a.jpg", tmp_path / "out"
    out.mkdir()
    (out / "a.json").write_text('{"notes": "mine"}')
    assert output_names([photo], out) == {photo: "a-2"}
    (out / "a.json").write_text(json.dumps({"image": str(photo)}))
    assert output_names([photo], out) == {photo: "a"}
    assert output_names([tmp_path / "elsewhere" / "a.png"], out).popitem()[1] == "a-2"
