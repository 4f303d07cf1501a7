"""Write what each training photograph of the scenes shows: names alone, from their masks.

``python benchmarks/scene_names.py ../shared/data src/lexiseg/assets/scene_names/train.json``

Run once; training without masks reads the file that this made. A name counts from half a percent
of the photograph on.
"""

import json
import sys
from pathlib import Path

import numpy as np

from lexiseg.data.mixture.bundled import SCENES
from lexiseg.data.semantic import read_semantic_folder

SMALLEST = 0.005
NO_NAMES = ("background",)


def main(arguments: list[str]) -> int:
    """The two arguments are the folder of data sets and the file to write."""
    root, target = map(Path, arguments)
    folders = {}
    for folder in SCENES:
        dataset = read_semantic_folder(root / folder, "train")
        names = [name.replace("_", " ").lower() for name in dataset.class_names]
        shown = {}
        for sample in (dataset[index] for index in range(len(dataset))):
            ids, counts = np.unique(sample.label_map, return_counts=True)
            large = ids[(counts >= SMALLEST * sample.label_map.size) & (ids < len(names))]
            shown[sample.name] = [int(i) for i in large if names[i] not in NO_NAMES]
        folders[folder] = {"names": names, "shown": shown}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(folders, separators=(",", ":")) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
