"""What the evaluator itself costs an image, beside the model: ``python benchmarks/evaluator.py``.

847 classes, 640 x 480 pixels, 16-bit masks in TIFF files. Printed are milliseconds an image: the
median and the largest of thirty.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from lexiseg.data.semantic import MaskFile, SemanticDataset, Vocabulary
from lexiseg.evaluation.journal import Journal
from lexiseg.evaluation.semantic import SemanticEvaluation
from lexiseg.prompts import LabelSet
from lexiseg.registry import create_model
from lexiseg.result import Segmentation
from lexiseg.segmenter import Segmenter

CLASSES, HEIGHT, WIDTH, IMAGES = 847, 480, 640, 30


class Ready:
    """Stands for a segmenter that took no time."""

    def __init__(self, results: list[Segmentation]) -> None:
        self.results = results
        self.protocol = Segmenter(create_model("maskclip_lite")).protocol

    def __call__(self, *_: object, **__: object) -> Segmentation:
        """The next result."""
        return self.results.pop()


def regions(generator: np.random.Generator, size: int) -> np.ndarray:
    """A map of square regions, as varied as a crowded photograph."""
    grid = generator.integers(0, CLASSES, (HEIGHT // size, WIDTH // size))
    return grid.repeat(size, axis=0).repeat(size, axis=1).astype(np.uint16)


def main() -> None:
    """Make the pictures, score them, print the table."""
    generator = np.random.default_rng(0)
    names = tuple(f"class {index}" for index in range(CLASSES))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(place / "photo.png")
        masks = [place / f"mask{index}.tif" for index in range(IMAGES)]
        for mask in masks:
            Image.fromarray(regions(generator, 40)).save(mask)
        dataset = SemanticDataset(
            name="made",
            split="val",
            class_names=names,
            class_ids=tuple(range(CLASSES)),
            ignored_ids=frozenset({65535}),
            images=(place / "photo.png",) * IMAGES,
            truths=tuple(map(MaskFile, masks)),
            vocabularies={
                "default": Vocabulary.one_each(LabelSet(names, tuple((n,) for n in names)))
            },
        )
        confidence = np.ones((HEIGHT, WIDTH), np.float32)
        results = [Segmentation(names, regions(generator, 20), confidence) for _ in range(IMAGES)]
        evaluation = SemanticEvaluation(Ready(results), dataset)
        times: dict[str, list[float]] = {"read mask": [], "count": [], "journal": []}
        with Journal(place, "made") as journal:
            for index in range(IMAGES):
                steps = [time.perf_counter()]
                dataset.truths[index].read()
                steps.append(time.perf_counter())
                sample = dataset[index]
                start = time.perf_counter()
                item = evaluation.count(sample)
                counted = time.perf_counter()
                journal.write(index, item)
                times["read mask"].append(steps[1] - steps[0])
                times["count"].append(counted - start)
                times["journal"].append(time.perf_counter() - counted)
    total = np.sum(list(times.values()), axis=0)
    for name, seconds in [*times.items(), ("all", total)]:
        print(f"{name:10} {np.median(seconds) * 1e3:6.2f} ms, at most {np.max(seconds) * 1e3:6.2f}")


if __name__ == "__main__":
    main()
