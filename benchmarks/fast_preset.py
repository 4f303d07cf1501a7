"""What ``fast:MODEL`` costs in mIoU and brings in time, side by side on the val splits.

python benchmarks/fast_preset.py ../shared/data [catseg_lite]
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from val_splits import VAL_SPLITS

import lexiseg
from lexiseg.data.semantic import SemanticDataset, read_semantic_folder
from lexiseg.evaluation.metrics import ConfusionMatrix, semantic_scores
from lexiseg.onnx.preset import fast_segmenter


def main(root: str, name: str = "catseg_lite") -> None:
    """Print a row for each split, and the median ratio of the seconds of a photograph."""
    segmenter = lexiseg.Segmenter.from_pretrained(name, device="cpu")
    fast = fast_segmenter(name, lambda: segmenter.model)
    ratios: list[float] = []
    print(f"| val split | `{name}` | `fast:{name}` | pixels with the same label |")
    print("| --- | --- | --- | --- |")
    means: list[tuple[float, float]] = []
    for split in VAL_SPLITS:
        dataset = read_semantic_folder(Path(root) / split, "val")
        scores, same = compare(segmenter, fast, dataset, ratios)
        means.append(scores)
        print(f"| {split} | {scores[0]:.4f} | {scores[1]:.4f} | {same:.2%} |", flush=True)
    whole, quick = (statistics.mean(each) for each in zip(*means, strict=True))
    print(f"| mean | {whole:.4f} | {quick:.4f} | |")
    print(f"\ntimes faster, median over {len(ratios)} photographs: {statistics.median(ratios):.2f}")


def compare(
    segmenter: Callable[..., Any],
    fast: Callable[..., Any],
    dataset: SemanticDataset,
    ratios: list[float],
) -> tuple[tuple[float, float], float]:
    """MIoU of both and the part of the pixels on which they agree."""
    words = dataset.vocabulary()
    matrices = [ConfusionMatrix(len(dataset.class_names), ignore_index=255) for _ in range(2)]
    same, pixels = 0, 0
    for index in range(len(dataset)):
        sample = dataset[index]
        maps, seconds = [], []
        for run, matrix in zip((segmenter, fast), matrices, strict=True):
            began = time.perf_counter()
            maps.append(run(sample.image, words.labels).label_map)
            seconds.append(time.perf_counter() - began)
            matrix.update(words.to_classes(maps[-1], 255), sample.label_map)
        if index:  # the first one encodes the labels
            ratios.append(seconds[0] / seconds[1])
        same += int((maps[0] == maps[1]).sum())
        pixels += maps[0].size
    whole, quick = (semantic_scores(matrix.counts).mean_iou for matrix in matrices)
    return (whole, quick), same / pixels


if __name__ == "__main__":
    main(*sys.argv[1:])
