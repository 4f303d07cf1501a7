"""Score a model on MSRC with words for its classes that no training data set uses.

python examples/unseen_words.py ../shared/data/scenes/msrc21 [MODEL]
"""

import sys

import lexiseg
from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import evaluate

WORDS = {
    "building": "cottage",
    "grass": "meadow",
    "tree": "woods",
    "cow": "heifer",
    "horse": "mare",
    "sheep": "ewe",
    "sky": "clouds",
    "mountain": "peak",
    "aeroplane": "airliner",
    "water": "lake",
    "face": "visage",
    "car": "sedan",
    "bicycle": "two-wheeler",
    "flower": "bloom",
    "sign": "placard",
    "bird": "waterfowl",
    "book": "novel",
    "chair": "seat",
    "road": "roadway",
    "cat": "feline",
    "dog": "hound",
    "body": "torso",
    "boat": "yacht",
}


def main(folder: str, model: str = "catseg_lite") -> None:
    """Print mIoU with the data set's own names and with the others, and each class's IoU."""
    dataset = read_semantic_folder(folder, "val")
    segmenter = lexiseg.Segmenter.from_pretrained(model)
    own = evaluate(segmenter, dataset)
    other = evaluate(segmenter, dataset, labels=[WORDS[name] for name in dataset.class_names])
    print(f"{model}: own names {own.mean_iou:.3f}, unseen words {other.mean_iou:.3f}")
    rows = zip(dataset.class_names, own.class_iou, other.class_iou, strict=True)
    for name, before, after in rows:
        if before == before:  # the class occurs
            print(f"{name:10} {before:.2f}   {WORDS[name]:18} {after:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
