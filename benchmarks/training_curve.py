"""The losses of a run over its steps, and the mIoU of each checkpoint that it kept, as a picture.

The stages of a run follow each other; a line stands where one begins.

python benchmarks/training_curve.py runs/lite curve.png ../shared/data/scenes/facades

MODEL, ``maskclip_lite``, may follow the folders as ``model=NAME``. A run keeps its last checkpoints
only: ``--set keep=100`` keeps a hundred. Needs matplotlib.
"""

import json
import sys
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import lexiseg
from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.segmenter import Segmenter
from lexiseg.training.checkpoints import checkpoints_of
from lexiseg.training.folder import RUN_FILE
from lexiseg.training.metrics import METRICS_FILE, read_metrics

BESIDE = ("step", "gradient norm", "lr", "seconds", "score")
SMOOTHED = 50  # steps


def main(run: str, out: str, *rest: str) -> None:
    """Draw the losses above, the scores below."""
    model = next((word[6:] for word in rest if word.startswith("model=")), "maskclip_lite")
    folders = [word for word in rest if not word.startswith("model=")]
    figure, panels = plt.subplots(
        1 + bool(folders), figsize=(7, 3 + 3 * bool(folders)), sharex=True, squeeze=False
    )
    stages = list(stages_of(Path(run)))
    draw_losses(stages, panels[0, 0])
    if folders:
        draw_scores(stages, model, folders, panels[1, 0])
    for panel, (first, _) in product(panels[:, 0], stages[1:]):
        panel.axvline(first, color="lightgrey", zorder=0)
    panels[-1, 0].set_xlabel("step")
    figure.tight_layout()
    figure.savefig(out, dpi=120)


def stages_of(run: Path) -> Iterator[tuple[int, Path]]:
    """The folders of a run's stages, and how many steps went before each."""
    first = 0
    while rows := read_metrics(run / METRICS_FILE):
        yield first, run
        first += len(rows)
        run = run / json.loads((run / RUN_FILE).read_text()).get("next", "none follows")


def draw_losses(stages: list[tuple[int, Path]], panel: plt.Axes) -> None:
    """Each loss as a running mean within its stage."""
    rows = [read_metrics(run / METRICS_FILE) for _, run in stages]
    for name in dict.fromkeys(key for row in chain(*rows) for key in row if key not in BESIDE):
        steps, means = [], []
        for (first, _), stage in zip(stages, rows, strict=True):
            values = np.array([row.get(name, 0.0) for row in stage])
            width = min(SMOOTHED, len(values))
            steps += [np.arange(first + width - 1, first + len(values)), [np.nan]]
            mean = np.convolve(values, np.full(width, 1 / width), mode="valid")
            means += [mean if values.any() else np.full_like(mean, np.nan), [np.nan]]
        panel.plot(np.concatenate(steps), np.concatenate(means), label=name)
    panel.set_ylabel("loss")
    panel.legend()


def draw_scores(
    stages: list[tuple[int, Path]], model: str, folders: list[str], panel: plt.Axes
) -> None:
    """Score the val split of each folder; printed too."""
    found = [(first + each.step, each) for first, run in stages for each in checkpoints_of(run)]
    for folder in folders:
        dataset = read_semantic_folder(folder, "val")
        scores = []
        for step, each in found:
            segmenter = Segmenter(lexiseg.create_model(model, weights=each.weights))
            scores.append(evaluate(segmenter, dataset).mean_iou)
            print(f"{folder} step {step}: {scores[-1]:.3f}", flush=True)
        panel.plot([step for step, _ in found], scores, marker="o", label=Path(folder).name)
    panel.set_ylabel("mIoU on val")
    panel.legend()


if __name__ == "__main__":
    main(*sys.argv[1:])
