"""ESC-Net's head with prompts and without, with 1, 2 and 4 blocks, and both class fusions, trained.

python benchmarks/escnet_ablation.py ../shared/data runs/escnet_ablation [STEPS] [VARIANT ...]

It is trained on the encoder's twin that never saw a mask, as the paper's is on CLIP; CAT-Seg's head
stands beside it. Each variant is a run of ``lexiseg train`` with equal steps, samples and seed,
stored with all of its head; started again, the command goes on. Rows are mIoU on val. Behind
the deepest variant comes the same under ``adaptive_depth``, with the time of a photograph as a part
of that of all blocks, both timed in turns.
"""

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from val_splits import VAL_SPLITS

from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.registry import builder_of
from lexiseg.segmenter import Segmenter
from lexiseg.training.recipes.lite_heads import ESCNetTrainConfig
from lexiseg.weights import load_state, read_weights

CATSEG = "CAT-Seg's head"
VARIANTS: dict[str, dict[str, Any]] = {
    CATSEG: {},
    "2 blocks": {},
    "2 blocks, no prompt ever valid": {"prompts": False},
    "1 block": {"blocks": 1},
    "4 blocks": {"blocks": 4},
    '2 blocks, class_fusion="none"': {"class_fusion": "none"},
    "2 blocks, boundary_refinement": {"boundary_refinement": True},
}
DEEPEST = "4 blocks"
SETTINGS = {"encoder": "lite_weak", "part": 1, "whole": False, "checkpoint_every": 50}
DEPTHS = (0.1, 0.5)
TIMED = 12


def main(root: str, out: str, steps: str = "100", *chosen: str) -> None:
    """Train, score, print."""
    for name in chosen or VARIANTS:
        changes = VARIANTS[name]
        arch = "catseg_lite" if name == CATSEG else "escnet_lite"
        folder = Path(out) / re.sub(r"\W+", "_", name)
        file = folder / "weights.safetensors"
        if not file.is_file():
            train(arch, root, folder, steps, changes)
        row(name, scores(segmenter(arch, file, changes), Path(root), folder / "scores.json"))
        if name == DEEPEST:
            for depth in DEPTHS:
                shallow = segmenter(arch, file, changes, depth)
                part = spared(segmenter(arch, file, changes), shallow, Path(root))
                found = scores(shallow, Path(root), folder / f"scores_{depth}.json")
                row(f"{name}, adaptive_depth={depth}: {part:.2f} of the time", found)


def train(arch: str, root: str, folder: Path, steps: str, changes: dict[str, Any]) -> None:
    """One run of the recipe."""
    settings = {**SETTINGS, "steps": steps, **changes}
    command = ["train", arch, "--data", root, "--out", str(folder)]
    for key, value in settings.items():
        command += ["--set", f"{key}={str(value).lower()}"]
    subprocess.run([sys.executable, "-m", "lexiseg", *command], check=True)


def segmenter(
    arch: str, file: Path, changes: dict[str, Any], depth: float | None = None
) -> Segmenter:
    """The variant with its weights."""
    asked = {} if arch == "catseg_lite" else ESCNetTrainConfig(steps=1, **changes).changes
    model = builder_of(arch)(**asked)
    if depth is not None:
        model.adaptive_depth = depth
    load_state(model, read_weights(file), model.from_published)
    return Segmenter(model, device="cpu")


def scores(segmenter: Segmenter, root: Path, record: Path) -> list[float]:
    """MIoU on each val split; read from the record where it is there."""
    if not record.is_file():
        splits = [read_semantic_folder(root / split, "val") for split in VAL_SPLITS]
        found = [evaluate(segmenter, split).mean_iou for split in splits]
        record.write_text(json.dumps(found), encoding="utf-8")
    return list(json.loads(record.read_text(encoding="utf-8")))


def spared(whole: Segmenter, shallow: Segmenter, root: Path) -> float:
    """Processor seconds of the second as a part of the first's, the median over photographs."""
    parts = []
    for split in VAL_SPLITS[:3]:
        dataset = read_semantic_folder(root / split, "val")
        labels = dataset.vocabulary().labels
        whole(dataset[0].image, labels), shallow(dataset[0].image, labels)
        for index in range(TIMED):
            image, seconds = dataset[index].image, []
            for run in (whole, shallow):
                began = time.process_time()
                run(image, labels)
                seconds.append(time.process_time() - began)
            parts.append(seconds[1] / seconds[0])
    return statistics.median(parts)


def row(name: str, found: list[float]) -> None:
    """Print one line of the table."""
    cells = " | ".join(f"{score:.3f}" for score in found)
    print(f"| {name} | {cells} | {statistics.mean(found):.4f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
