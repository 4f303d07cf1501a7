"""Synthetic expressions: made by rule from photographs whose masks people drew.

No person said these sentences. Each is true of exactly one region of its photograph, as far as the
photograph is annotated; the rules are in wording.py, and nothing in them is left to chance.
"""

from collections.abc import Iterator
from pathlib import Path

from lexiseg.data.masks import encode_rle
from lexiseg.data.referring.references import FileReference, Outline, ReferringDataset
from lexiseg.data.referring.regions import SMALLEST, regions_of
from lexiseg.data.referring.wording import describe
from lexiseg.data.semantic import SemanticDataset, read_semantic_folder

GENERATED = "generated"


def read_generated(root: str | Path, split: str = "val") -> ReferringDataset:
    """Expressions made from every folder with ``classes.json`` below ``root``, or from it itself.

    Folders are taken in the order of their names, those without that split are left out. Half a
    minute for a thousand photographs.

    Args:
        root: such as ``../shared/data``; see :mod:`lexiseg.data.semantic` for the layout.
        split: "train" or "val".

    Raises:
        ValueError: there is no such folder, or no expression can be made.
    """
    references: list[FileReference] = []
    for folder in folders_of(root, split):
        references += references_of(read_semantic_folder(folder, split))
    return ReferringDataset(GENERATED, split, tuple(references))


def check_generated(root: str | Path, split: str = "val") -> list[str]:
    """What is missing for :func:`read_generated`; empty where photographs with masks are there."""
    try:
        folders_of(root, split)
    except ValueError as error:
        return [str(error)]
    return []


def folders_of(root: str | Path, split: str) -> list[Path]:
    """The folders of photographs and masks that have this split.

    Raises:
        ValueError: there is none.
    """
    root = Path(root)
    found = {
        path.parent for form in ("", "*/", "*/*/") for path in root.glob(f"{form}classes.json")
    }
    folders = sorted(folder for folder in found if (folder / split / "images").is_dir())
    if not folders:
        raise ValueError(
            f"{root} holds no folder with classes.json and {split}/images; expressions are made "
            "from photographs with masks"
        )
    return folders


def references_of(dataset: SemanticDataset, *, smallest: float = SMALLEST) -> list[FileReference]:
    """The regions of a data set that a sentence tells apart, photograph by photograph.

    Args:
        dataset: photographs with label maps.
        smallest: share of the photograph that a region has at least.
    """
    return [
        reference
        for index in range(len(dataset))
        for reference in _of_photograph(dataset, index, smallest)
    ]


def _of_photograph(
    dataset: SemanticDataset, index: int, smallest: float
) -> Iterator[FileReference]:
    sample = dataset[index]
    regions = regions_of(sample.image, sample.label_map, dataset.class_names, smallest=smallest)
    for number, sentences in enumerate(describe(regions)):
        if not sentences:
            continue
        mask = regions[number].mask
        size = (mask.shape[0], mask.shape[1])
        outline = {"counts": encode_rle(mask), "size": list(size)}
        yield FileReference(
            name=f"{sample.name}_{number}",
            image=dataset.images[index],
            expressions=sentences,
            mask=Outline(f"{dataset.images[index].name}: region {number}", outline, size),
        )
