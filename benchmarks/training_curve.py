"""The losses of a run over its steps, and the mIoU of each checkpoint that it kept, as a picture.

python benchmarks/training_curve.py runs/lite curve.png ../shared/data/scenes/facades

MODEL, ``maskclip_lite``, may follow the folders as ``model=NAME``. A run keeps its last checkpoints
only: ``--set keep=100`` keeps a hundred. Needs matplotlib.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import lexiseg
from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.segmenter import Segmenter
from lexiseg.training.checkpoints import checkpoints_of

BESIDE = ("step", "gradient norm", "lr", "seconds", "score")
SMOOTHED = 50  # steps


def main(run: str, out: str, *rest: str) -> None:
    """Draw the losses above, the scores below."""
    model = next((word[6:] for word in rest if word.startswith("model=")), "maskclip_lite")
    folders = [word for word in rest if not word.startswith("model=")]
    figure, panels = plt.subplots(
        1 + bool(folders), figsize=(7, 3 + 3 * bool(folders)), sharex=True, squeeze=False
    )
    draw_losses(Path(run) / "metrics.jsonl", panels[0, 0])
    if folders:
        draw_scores(Path(run), model, folders, panels[1, 0])
    panels[-1, 0].set_xlabel("step")
    figure.tight_layout()
    figure.savefig(out, dpi=120)


def draw_losses(file: Path, panel: plt.Axes) -> None:
    """Each loss as a running mean."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    steps = [row["step"] for row in rows]
    for name in (key for key in rows[0] if key not in BESIDE):
        values = np.array([row[name] for row in rows])
        if values.any():
            width = min(SMOOTHED, len(values))
            smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
            panel.plot(steps[width - 1 :], smooth, label=name)
    panel.set_ylabel("loss")
    panel.legend()


def draw_scores(run: Path, model: str, folders: list[str], panel: plt.Axes) -> None:
    """Score the val split of each folder; printed too."""
    found = checkpoints_of(run)
    for folder in folders:
        dataset = read_semantic_folder(folder, "val")
        scores = []
        for each in found:
            segmenter = Segmenter(lexiseg.create_model(model, weights=each.weights))
            scores.append(evaluate(segmenter, dataset).mean_iou)
            print(f"{folder} step {each.step}: {scores[-1]:.3f}", flush=True)
        panel.plot([each.step for each in found], scores, marker="o", label=Path(folder).name)
    panel.set_ylabel("mIoU on val")
    panel.legend()


if __name__ == "__main__":
    main(*sys.argv[1:])
