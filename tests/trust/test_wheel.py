"""The wheel, built and installed without a network, works on its own."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRUCK = ROOT / "examples" / "photos" / "truck.jpg"
NO_NETWORK = """
import socket, sys
def refuse(*_, **__):
    raise OSError("no network in this test")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import lexiseg
assert lexiseg.__file__.startswith(sys.argv[1]), lexiseg.__file__
from lexiseg.apps.cli import main
sys.argv = ["lexiseg", *sys.argv[2:]]
main()
assert "torchvision" not in sys.modules
"""


def run(*words: object, **options: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.mark.slow
def test_it_is_pure_whole_and_runs(tmp_path: Path) -> None:
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")  # needs no compiler
    names = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src" / "lexiseg"
    expected = {
        f"lexiseg/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    site = tmp_path / "site"
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    words = ["segment", TRUCK, "--labels", "truck, road, wall", "--json", "--out", tmp_path / "out"]
    told = run("-c", NO_NETWORK, site, *words, cwd=tmp_path, env=environment)
    assert '"label": "truck"' in told


@pytest.mark.slow
def test_what_it_needs_is_installed_in_the_versions_it_allows() -> None:
    command = [sys.executable, "-m", "pip", "check"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert told
    assert not [line for line in told.splitlines() if line.startswith("lexiseg ")]
