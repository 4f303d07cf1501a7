import hashlib
import json
import re
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from PIL import Image

from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.record import RecordedEvaluation
from lexiseg.evaluation.semantic import SemanticEvaluation
from lexiseg.segmenter import Segmenter
from lexiseg.training.checkpoints import WEIGHTS_FILE, copy_whole, judged, write_checkpoint
from lexiseg.training.export import export_weights
from lexiseg.training.folder import write_run
from lexiseg.training.run import TrainConfig
from lexiseg.weights import read_metadata, save_weights, state_sha256

CONFIG = TrainConfig(steps=30)


def save(gain: float, path: Path) -> None:
    save_weights(path, {"gain": torch.tensor(gain)}, {"model": "painter"})


def write_steps(
    run: Path,
    scores: dict[int, float | None],
    *,
    data: str = "photos",
    following: str | None = None,
) -> None:
    """A run whose weights are the number of the step; all checkpoints stay."""
    write_run(run, CONFIG, {"recipe": "paint", "data": data}, following=following)
    for step, score in scores.items():
        write = partial(save, float(step))
        write_checkpoint(run, step=step, row={}, state={}, save=write)
        judged(run, step, score, keep=9)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run whose second checkpoint was the best."""
    folder = tmp_path / "run"
    write_steps(folder, {10: 0.1, 20: 0.51239, 30: 0.2})
    copy_whole(folder / "checkpoints" / "step-000020" / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    return folder


def gain(path: Path) -> float:
    return float(Segmenter.from_pretrained(path, device="cpu").model.gain.detach())


@pytest.mark.parametrize(("choice", "step"), [("final", 20), ("best", 20), ("last", 30)])
def test_the_chosen_weights_are_loaded_by_name_of_the_file(
    run: Path, tmp_path: Path, registered_painter: str, choice: str, step: int
) -> None:
    out = tmp_path / "given" / "mine.safetensors"
    card = export_weights(run, out, choice=choice, licence="cc-by-4.0")
    assert card == tmp_path / "given" / "mine.md"
    assert gain(out) == step
    assert read_metadata(out) == {
        "model": "painter",
        "recipe": "paint",
        "checkpoint": f"checkpoints/step-{step:06d}",
        "licence": "cc-by-4.0",
        "lexiseg": version("lexiseg"),
    }


def test_the_card(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    card = export_weights(run, out, licence="MIT").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: mit\nlibrary_name: lexiseg\n")
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    rows = {
        "model": "painter",
        "recipe": "paint",
        "data": "photos",
        "checkpoint": "checkpoints/step-000020",
        "score on the validation split": "0.5124",
        "licence": "MIT",
        "lexiseg": version("lexiseg"),
        "SHA-256": digest,
    }
    found = dict(re.findall(r"^\| (.+) \| (.+) \|$", card, re.MULTILINE))
    assert found == {"---": "---", **rows}
    config = json.loads(re.findall(r"```json\n(.*?)```", card, re.DOTALL)[0])
    assert config["steps"] == 30
    assert config["optim"]["lr"] == CONFIG.optim.lr
    assert "Segmenter.from_pretrained('mine.safetensors')" in card
    again = export_weights(run, out, licence="MIT").read_text(encoding="utf-8")
    assert again == card


def test_a_licence_of_ones_own_words(run: Path, tmp_path: Path) -> None:
    card = export_weights(run, tmp_path / "a.safetensors", licence="research: ask us")
    assert card.read_text().startswith("---\nlicense: other\nlicense_name: research-ask-us\n")
    assert "| licence | research: ask us |" in card.read_text()
    card = export_weights(run, tmp_path / "a.safetensors")
    assert card.read_text().startswith("---\nlicense: unknown\n")


def test_the_card_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_steps(run, {10: None}, data=str(tmp_path / "photos"))
    facts = json.loads((run / "run.json").read_text())
    facts["config"]["clip"] = str(tmp_path / "clip.pt")
    (run / "run.json").write_text(json.dumps(facts))
    out = tmp_path / "a.safetensors"
    card = export_weights(run, out, choice="last").read_text()
    assert str(tmp_path) not in card
    assert "| data | photos |" in card
    assert '"clip": "clip.pt"' in card
    assert "score" not in card
    assert str(tmp_path).encode() not in out.read_bytes()


def test_a_run_that_is_not_finished(tmp_path: Path, registered_painter: str) -> None:
    run, out = tmp_path / "run", tmp_path / "a.safetensors"
    write_steps(run, {})
    with pytest.raises(ValueError, match="run is not finished; take the best or the last"):
        export_weights(run, out)
    for choice in ("best", "last"):
        with pytest.raises(ValueError, match="run has no checkpoint yet"):
            export_weights(run, out, choice=choice)
    write_steps(run, {10: None, 20: None})
    for choice in ("best", "last"):
        export_weights(run, out, choice=choice)
        assert gain(out) == 20


def test_of_several_stages_the_last_counts_that_has_a_checkpoint(
    tmp_path: Path, registered_painter: str
) -> None:
    run, out = tmp_path / "run", tmp_path / "a.safetensors"
    write_steps(run, {30: 0.9}, following="finish")
    write_steps(run / "finish", {})
    export_weights(run, out, choice="best")
    assert gain(out) == 30
    write_steps(run / "finish", {5: 0.1})
    export_weights(run, out, choice="best")
    assert gain(out) == 5
    assert read_metadata(out)["checkpoint"] == "finish/checkpoints/step-000005"


def test_another_run_inside_the_folder_is_none_of_its_stages(
    run: Path, tmp_path: Path, registered_painter: str
) -> None:
    write_steps(run / "mine", {5: 0.9})
    out = tmp_path / "a.safetensors"
    for choice, step in (("final", 20), ("best", 20), ("last", 30)):
        export_weights(run, out, choice=choice)
        assert gain(out) == step
        assert read_metadata(out)["checkpoint"] == f"checkpoints/step-{step:06d}"


def test_a_text_of_ones_own_is_not_written_over(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.safetensors"
    out.with_suffix(".md").write_text("my notes")
    with pytest.raises(ValueError, match=r"notes\.md is not a card of lexiseg .*would be lost"):
        export_weights(run, out)
    assert out.with_suffix(".md").read_text() == "my notes"
    assert not out.exists()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("../../jane/client/photos", "photos"),
        ("C:\\Users\\jane\\photos", "photos"),
        ("photos/", "photos"),
        ("hf:jane/model", "hf:jane/model"),
        ("https://example.org/a.pt", "https://example.org/a.pt"),
        ("..", ".."),
    ],
)
def test_paths_are_cut_to_their_last_part(tmp_path: Path, value: str, shown: str) -> None:
    run = tmp_path / "run"
    write_steps(run, {10: None}, data=value)
    card = export_weights(run, tmp_path / "a.safetensors", choice="last").read_text()
    assert f"| data | {shown} |" in card
    assert ("jane" in card) == ("jane" in shown)


@pytest.mark.parametrize("value", ['"x"', "[1]", "true"])
def test_a_score_that_is_no_number_is_named(
    run: Path, tmp_path: Path, registered_painter: str, value: str
) -> None:
    model = Segmenter.from_pretrained(run / WEIGHTS_FILE, device="cpu").model
    digest, record = state_sha256(model.state_dict()), tmp_path / "r.json"
    record.write_text(f'{{"weights_sha256": "{digest}", "mIoU": {value}}}')
    with pytest.raises(ValueError, match=r"r\.json is damaged: mIoU is .*; evaluate anew"):
        export_weights(run, tmp_path / "a.safetensors", records=[record])
    record.write_text(f'{{"weights_sha256": "{digest}", "mIoU": null, "pAcc": 0.25}}')
    card = export_weights(run, tmp_path / "a.safetensors", records=[record]).read_text()
    assert card.count("|  |  |  |  |  | 0.2500 |") == 1


def test_scores_are_shown_if_they_are_of_these_weights(
    run: Path, tmp_path: Path, registered_painter: str, flag_file: Path
) -> None:
    root = tmp_path / "flags"
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
    flag_file.rename(root / "val" / "images" / "flag.png")
    Image.new("L", (30, 20), 0).save(root / "val" / "masks" / "flag.png")
    (root / "classes.json").write_text('{"classes": {"0": "red", "1": "green"}}')
    records = []
    for name in (run / WEIGHTS_FILE, registered_painter):
        evaluation = SemanticEvaluation(
            Segmenter.from_pretrained(name, device="cpu"), read_semantic_folder(root, "val")
        )
        recorded = RecordedEvaluation(evaluation, Path(name).stem, tmp_path / "scores")
        recorded.run()
        recorded.finish()
        records.append(recorded.file)
    out = tmp_path / "a.safetensors"
    card = export_weights(run, out, records=records[:1]).read_text()
    row = json.loads(records[0].read_text())
    assert "| data set | split | protocol | items | mIoU | pAcc | mAcc | fwIoU |" in card
    assert f"| flags | val | default | 1 | {row['mIoU']:.4f} | {row['pAcc']:.4f} |" in card
    out.unlink()
    with pytest.raises(
        ValueError, match=r"painter@default.*\.json has the scores of other weights"
    ):
        export_weights(run, out, records=records[1:])
    assert not out.exists()


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_folders_that_hold_no_run(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"holds no run of lexiseg train \(run\.json") as caught:
        export_weights(tmp_path, tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_what_is_not_known_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.pth came; .* must end with \.safetensors"):
        export_weights(run, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="'first' came; choose final, best, last"):
        export_weights(run, tmp_path / "a.safetensors", choice="first")
    with pytest.raises(ValueError, match="no record of lexiseg evaluate .*nothing.json: No such"):
        export_weights(run, tmp_path / "a.safetensors", records=[tmp_path / "nothing.json"])
    (run / WEIGHTS_FILE).write_bytes(b"not weights")
    with pytest.raises(ValueError, match="is no safetensors file"):
        export_weights(run, tmp_path / "a.safetensors")
