import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from lexiseg.apps.cli import app
from lexiseg.methods.freeda.bank import PrototypeBank, verify
from lexiseg.methods.freeda.offline import recipe as recipes
from lexiseg.methods.freeda.offline.annotated import add_pictures
from lexiseg.methods.freeda.offline.diffusion import Diffusion
from tests.apps.conftest import in_one_line
from tests.methods.freeda.offline.test_annotated import picture
from tests.methods.freeda.offline.tiny_diffusion import tiny_pipeline
from tests.methods.freeda.offline.tiny_encoders import Colours, tiny_pair

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object) -> Result:
        words = ["prototypes", *(str(argument) for argument in arguments)]
        return CliRunner().invoke(app, words, env={"COLUMNS": "200"})

    return invoke


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights, loaded once, in the place of bundled and published ones."""
    pair, pipeline = tiny_pair(), tiny_pipeline()

    def diffusion(source: str, *, steps: int, guidance: float, device: str) -> Diffusion:
        return Diffusion(pipeline, name=source, steps=steps, guidance=guidance)

    monkeypatch.setattr(recipes.EncoderFiles, "load", lambda self, device="cpu": pair)
    monkeypatch.setattr(Diffusion, "from_pretrained", diffusion)


@pytest.fixture
def small_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights in the place of the bundled ones, which are slower to load."""
    monkeypatch.setattr(recipes.EncoderFiles, "load", lambda self, device="cpu": tiny_pair())


@pytest.mark.parametrize("verb", ["build", "add", "info", "merge", "verify"])
def test_the_help_has_an_example(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"Example: lexiseg prototypes {verb}" in result.stdout


@pytest.mark.usefixtures("small_models")
def test_build_in_shards_and_merge(run: Run) -> None:
    captions = ["A dog and a cat on a sofa.", "Nothing.", "A bus on a road.", "Two birds."]
    Path("captions.txt").write_text("\n".join(captions))
    common = ["--captions", "captions.txt", "--diffusion", "tiny", "--lite", "--steps", 1]
    whole = run("build", *common, "--out", "whole", "--images", "images", "--json")
    assert whole.exit_code == 0, whole.output
    report = json.loads(whole.stdout.splitlines()[-1])
    assert report == {
        **{"bank": "whole", "captions": 4, "rows": 6, "words": 6},
        "left_out": {"no word of the list is in the caption": 1},
    }
    assert len(list(Path("images").iterdir())) == 3
    for number in (1, 2):
        result = run("build", *common, "--out", f"b{number}", "--shard", f"{number}/2")
        assert result.exit_code == 0, result.output
    merged = run("merge", "all", "--from", "b1", "--from", "b2", "--json")
    assert merged.exit_code == 0, merged.output
    assert json.loads(merged.stdout)["rows"] == 6
    for name in ("bank.json", *(path.name for path in Path("all").glob("vectors-*"))):
        assert (Path("all") / name).read_bytes() == (Path("whole") / name).read_bytes()
    again = run("build", *common, "--out", "whole")
    assert again.exit_code == 0
    assert "whole: 6 rows, 6 words, 4 captions" in again.stdout
    other = run("build", *common, "--out", "whole", "--threshold", "0.5")
    assert other.exit_code == 2
    assert "belongs to another job: settings differ" in other.stderr


@pytest.mark.usefixtures("small_encoders")
def test_add_pictures_with_boxes_and_clicks(run: Run, flag: np.ndarray) -> None:
    Path("own").mkdir()
    Image.fromarray(flag.repeat(3, axis=0).repeat(3, axis=1)).save("own/a.png")
    rows = [
        {"image": "a.png", "label": "red|scarlet", "box": [0, 0, 31, 60]},
        {"image": "a.png", "label": "blue", "click": [80, 30]},
    ]
    Path("own/regions.json").write_text(json.dumps(rows))
    for count in (3, 6):
        result = run("add", "bank", "--images", "own", "--lite", "--json")
        assert result.exit_code == 0, result.output
        report = json.loads(result.stdout)
        assert (report["added"], report["rows"]) == (3, count)
    assert report["words"] == {"red": 2, "scarlet": 2, "blue": 2}
    assert PrototypeBank.open("bank").prototypes.shape == (6, 64)


def test_info_and_verify(run: Run) -> None:
    add_pictures("bank", [picture()], Colours())
    table = run("info", "bank")
    assert table.exit_code == 0
    assert re.search(r"rows\s*│\s*3", table.stdout)
    assert "farm tractor 1" in table.stdout
    assert json.loads(run("info", "bank", "--json").stdout)["text_encoder"] == "letters"
    assert run("verify", "bank").exit_code == 0
    vectors = next(Path("bank").glob("vectors-*"))
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"\x01")
    broken = run("verify", "bank", "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["problems"] == verify("bank")
    assert "SHA-256" in broken.stderr


BUILD = ("build", "--captions", "c.txt", "--out", "b", "--diffusion", "d")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*BUILD,), "give --dino FILE and --clip FILE .* or --lite"),
        ((*BUILD, "--lite", "--dino", "x"), "or --lite"),
        ((*BUILD, "--lite", "--shard", "2"), "--shard '2' came; give I/N"),
        ((*BUILD, "--lite", "--shard", "3/2"), "--shard '3/2' came; give I/N"),
        ((*BUILD, "--lite", "--key", "word"), "key 'word'; the keys are context"),
        ((*BUILD, "--lite", "--threshold", "2"), "threshold 2.0"),
        ((*BUILD, "--lite", "--words", "none.txt"), "none.txt cannot be read"),
        (("build", "--captions", "x", "--out", "b", "--diffusion", "d", "--lite"), "x cannot be"),
        (("add", "b", "--images", "none", "--lite"), "none is no folder"),
        (("info", "none"), "no bank at 'none'"),
        (("merge", "all", "--from", "none"), "no bank at 'none'"),
        (("merge", ".", "--from", "none"), "is there; choose another name"),
    ],
)
def test_misuse_is_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    Path("c.txt").write_text("A dog.")
    in_one_line(run(*words), message, 2)
    assert not Path("b").exists()


@pytest.mark.usefixtures("small_encoders")
def test_no_diffusion_is_told(run: Run) -> None:
    Path("c.txt").write_text("A dog.")
    Path("d").mkdir()
    in_one_line(run(*BUILD, "--lite"), "'d' is no Stable Diffusion that can be read", 2)
    assert not Path("b.parts").exists()


@pytest.mark.usefixtures("small_encoders")
def test_a_bank_of_other_encoders_takes_nothing(run: Run, flag_file: Path) -> None:
    add_pictures("bank", [picture()], Colours())
    Path("regions.json").write_text(
        json.dumps([{"image": flag_file.name, "label": "x", "click": [1, 1]}])
    )
    in_one_line(run("add", "bank", "--images", ".", "--lite"), "made by letters and colours", 2)
