from pathlib import Path

from lexiseg.jobs.photos import list_photos, root_of


def test_folders_are_replaced_by_their_pictures(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", ".c.jpg", "d.txt", "a_overlay.jpg", "sub/e.webp", ".h/f.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = [tmp_path, tmp_path / "a.jpg", tmp_path / "missing.jpg"]
    out = tmp_path / "out"
    photos, problems = list_photos(given, recursive=False, out=out)
    assert [photo.key for photo in photos] == ["a.jpg", "b.PNG", "missing.jpg"]
    assert problems == []
    photos, _ = list_photos([tmp_path], recursive=True, out=out)
    assert [(photo.key, str(photo.place)) for photo in photos] == [
        ("a.jpg", "."),
        ("b.PNG", "."),
        ("sub/e.webp", "sub"),
    ]
    assert list_photos([tmp_path / "sub"], recursive=True, out=tmp_path / "sub") == (
        list_photos([tmp_path / "sub"], recursive=False, out=out)
    )
    (tmp_path / "empty").mkdir()
    photos, problems = list_photos([tmp_path / "empty"], recursive=False, out=out)
    assert photos == []
    assert "has no pictures (.bmp" in problems[0]


def test_the_output_folder_and_circles_are_passed_over(tmp_path: Path) -> None:
    for name in ("a/x.jpg", "out/y.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    photos, _ = list_photos([tmp_path], recursive=True, out=tmp_path / "out")
    assert [photo.key for photo in photos] == ["a/x.jpg"]


def test_the_root_is_what_all_share(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert root_of([tmp_path / "a"]) == tmp_path / "a"
    assert root_of([tmp_path / "a", tmp_path / "b" / "c.jpg"]) == tmp_path
    assert root_of([tmp_path / "a" / "c.jpg"]) == tmp_path / "a"
