"""Five classes of a data set that a bank never saw, before and after three photographs of each.

python benchmarks/taught_classes.py ../shared/data scenes/facades

The bank is the bundled one without the rows of that folder; three regions of each class are added
from its train split, and its val split is segmented by all of its names, before and after.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import lexiseg
from lexiseg.data.semantic import read_semantic_folder
from lexiseg.encoders.lite import Lite
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.methods.freeda.bank import PrototypeBank, append
from lexiseg.methods.freeda.offline.annotated import Picture, add_pictures
from lexiseg.methods.freeda.offline.encoding import LiteBankEncoder
from lexiseg.segmenter import Segmenter
from lexiseg.training.scene_bank import LEAST_PART, pictures_of

PHOTOGRAPHS = 3
CLASSES = 5


def main(root: str, folder: str, *names: str) -> None:
    """Print IoU before and after, of the named classes or of the first five unknown ones."""
    dataset = read_semantic_folder(Path(root) / folder, "val")
    model = lexiseg.create_model("freeda_lite")
    bundled, records = model.bank, list(model.bank.records())
    rows = [i for i, record in enumerate(records) if not record.source.startswith(folder)]
    kept = [records[i] for i in rows]
    known = {record.word for record in kept}
    new = [name for name in dataset.class_names if name not in known]
    names = names or tuple(new[:CLASSES])
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "bank"
        append(path, bundled.keys[rows], bundled.prototypes[rows], kept, bundled.kind)
        model.bank = PrototypeBank.open(path)
        before = evaluate(Segmenter(model), dataset).class_iou
        train = read_semantic_folder(Path(root) / folder, "train")
        shown = pictures_of(train, folder, PHOTOGRAPHS, LEAST_PART)
        lite = next(part for part in model.modules() if isinstance(part, Lite))
        encoder = LiteBankEncoder(lite, "lite_weak")
        count = add_pictures(path, [only(picture, names) for picture in shown], encoder)
        model.bank = PrototypeBank.open(path)
        after = evaluate(Segmenter(model), dataset).class_iou
    print(f"{folder}: {len(rows)} rows, {count} added")
    print("| class | before | after |")
    print("| --- | --- | --- |")
    chosen = [dataset.class_names.index(name) for name in names]
    for name, i in zip(names, chosen, strict=True):
        print(f"| {name} | {before[i]:.3f} | {after[i]:.3f} |")
    print(f"| mean | {np.nanmean(before[chosen]):.3f} | {np.nanmean(after[chosen]):.3f} |")


def only(picture: Picture, names: tuple[str, ...]) -> Picture:
    """The picture with the regions of some names."""
    regions = tuple(region for region in picture.regions if region.names[0] in names)
    return Picture(picture.image, regions, picture.source)


if __name__ == "__main__":
    main(*sys.argv[1:])
