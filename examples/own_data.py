"""Score two models on one's own photographs with masks (the layout is in lexiseg.data.semantic).

python examples/own_data.py FOLDER
"""

import sys

import lexiseg
from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate


def main(folder: str) -> None:
    """Print mIoU and pixel accuracy of each model on the split "val"."""
    dataset = read_semantic_folder(folder, "val")
    for name in ("maskclip_lite", "catseg_lite"):
        scores = evaluate(lexiseg.Segmenter.from_pretrained(name), dataset)
        print(f"{name:14} mIoU {scores.mean_iou:.3f}  pixel accuracy {scores.pixel_accuracy:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
