"""What is loaded, in a fresh process each."""

import subprocess
import sys

import pytest

HEAVY = ["torch", "numpy", "PIL", "typer", "rich"]
EXTRAS = [
    *("accelerate", "diffusers", "faiss", "fastapi", "gradio", "huggingface_hub", "lmdb"),
    *("prometheus_client", "uvicorn"),
    *("av", "pyvips", "ray", "scipy", "skimage", "sklearn", "tokenizers", "transformers"),
]


def loaded_after(code: str) -> set[str]:
    """Top-level packages that are loaded once ``code`` has run."""
    report = "import sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_import_loads_nothing_heavy() -> None:
    loaded = loaded_after("import lexiseg; dir(lexiseg)")
    assert "lexiseg" in loaded
    assert not loaded & {*HEAVY, *EXTRAS}


@pytest.mark.parametrize(
    "words",
    [["--help"], *([verb, "--help"] for verb in ("segment", "data", "evaluate", "prototypes"))]
    + [["serve", "--help"], ["demo", "--help"]],
)
def test_help_loads_no_torch(words: list[str]) -> None:
    code = (
        "import sys\nfrom lexiseg.apps.cli import main\n"
        f"sys.argv = ['lexiseg', *{words}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 0\n"
    )
    assert not loaded_after(code) & {"torch", "numpy", "PIL", *EXTRAS}


def test_wrong_labels_are_told_without_torch() -> None:
    code = (
        "import sys\nfrom lexiseg.apps.cli import main\n"
        "sys.argv = ['lexiseg', 'segment', 'a.jpg', '--labels', 'dog, dog']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2\n"
    )
    assert "torch" not in loaded_after(code)


def test_the_whole_surface_loads_no_extra() -> None:
    code = "import lexiseg\nfor name in lexiseg.__all__: getattr(lexiseg, name)\n"
    loaded = loaded_after(code)
    assert "torch" in loaded
    assert not loaded & set(EXTRAS)
