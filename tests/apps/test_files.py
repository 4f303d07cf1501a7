import json
from pathlib import Path

import pytest

from lexiseg.apps.files import expand, output_names


def test_names_that_would_collide(tmp_path: Path) -> None:
    files = [Path(name) for name in ("a/x.jpg", "b/x.png", "c/X.png", "x-2.png", "x.labels.png")]
    names = output_names(files, tmp_path)
    assert list(names.values()) == ["x", "x-2", "X-3", "x-2-2", "x.labels"]
    clash = [tmp_path / "x.jpg", tmp_path / "x_labels.png"]
    assert output_names(clash, tmp_path) == {clash[0]: "x-2", clash[1]: "x_labels"}


def test_folders_are_replaced_by_their_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.PNG", "a.jpg", ".c.jpg", "d.txt", "a_overlay.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "sub.jpg").mkdir()
    photos = [tmp_path, tmp_path / "a.jpg", Path("missing.jpg")]
    files, failed = expand(photos)
    assert files == [tmp_path / "a.jpg", tmp_path / "b.PNG", Path("missing.jpg")]
    assert not failed
    files, failed = expand([tmp_path / "sub.jpg"])
    assert (files, failed) == ([], True)
    assert "has no pictures" in capsys.readouterr().err


def test_files_that_are_not_this_photos_results_are_left_alone(tmp_path: Path) -> None:
    photo, out = tmp_path / "a.jpg", tmp_path / "out"
    out.mkdir()
    (out / "a.json").write_text('{"notes": "mine"}')
    assert output_names([photo], out) == {photo: "a-2"}
    (out / "a.json").write_text(json.dumps({"image": str(photo)}))
    assert output_names([photo], out) == {photo: "a"}
    assert output_names([tmp_path / "elsewhere" / "a.png"], out).popitem()[1] == "a-2"
