"""mIoU on the names that a training run held out, and on those that it saw.

python benchmarks/unseen_names.py ../shared/data runs/unseen_head/weights.safetensors

The file is of ``lexiseg train catseg_lite --set unseen=0.2``, or of ``train lite`` with MODEL
``maskclip_lite`` behind it. All names of a data set compete, seen and unseen alike.
"""

import sys
from pathlib import Path

import numpy as np
from val_splits import VAL_SPLITS

import lexiseg
from lexiseg.data.mixture import bundled_held_out
from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.segmenter import Segmenter
from lexiseg.training.recipes.lite_data import read_synonyms

SHARE = 0.2


def main(root: str, file: str, model: str = "catseg_lite") -> None:
    """Print a row a data set, and both means over all names of all sets."""
    segmenter = Segmenter(lexiseg.create_model(model, weights=file))
    held_out = bundled_held_out(root, SHARE, read_synonyms())
    seen: list[float] = []
    unseen: list[float] = []
    print("| val split | seen names | mIoU | unseen names | mIoU |")
    print("| --- | --- | --- | --- | --- |")
    for folder in VAL_SPLITS:
        dataset = read_semantic_folder(Path(root) / folder, "val")
        scores = evaluate(segmenter, dataset)
        is_out = np.array([name in held_out for name in dataset.class_names])
        occurs = ~np.isnan(scores.class_iou)
        both = [scores.class_iou[part & occurs] for part in (~is_out, is_out)]
        means = [f"{part.mean():.3f}" if len(part) else "" for part in both]
        print(f"| {folder} | {len(both[0])} | {means[0]} | {len(both[1])} | {means[1]} |")
        seen += both[0].tolist()
        unseen += both[1].tolist()
    print(f"| all | {len(seen)} | {np.mean(seen):.3f} | {len(unseen)} | {np.mean(unseen):.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
