"""A bank for ``freeda_lite`` from photographs with masks; no gradient step."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lexiseg.data.epochs import texts_of
from lexiseg.data.mixture.bundled import SCENES
from lexiseg.data.semantic import SemanticDataset, read_semantic_folder
from lexiseg.methods.freeda.bank import BankError, PrototypeBank
from lexiseg.methods.freeda.offline.annotated import Picture, Region, add_pictures
from lexiseg.methods.freeda.offline.encoding import BankEncoder

A_NAME = 12  # regions of each name and folder: 3,000 rows, 3.4 MB
LEAST_PART = 0.01  # of the photograph, below which a region is too small to be seen


def bank_of_scenes(
    root: str | Path,
    path: str | Path,
    encoder: BankEncoder,
    *,
    folders: Sequence[str] = SCENES,
    a_name: int = A_NAME,
    least_part: float = LEAST_PART,
) -> PrototypeBank:
    """The regions of the train splits, each pooled into a prototype whose key is its name.

    ``bank_of_scenes("../shared/data", "bank", LiteBankEncoder(lite))``

    Args:
        root: the folder of ``../shared/data``.
        path: the new bank.
        encoder: of features and keys.
        folders: under the root, each with photographs and label maps; only "train" is read.
        a_name: of each name in each folder, so many regions, spread evenly over its photographs.
        least_part: of its photograph that a region must cover, 0 to 1.

    Raises:
        BankError: there is a bank at ``path`` already.
        ValueError: a folder is missing.
    """
    if Path(path).exists():
        raise BankError(f"there is something at {str(path)!r} already; give another name")
    for folder in folders:
        dataset = read_semantic_folder(Path(root) / folder, "train")
        add_pictures(path, pictures_of(dataset, folder, a_name, least_part), encoder)
    return PrototypeBank.open(path)


def pictures_of(
    dataset: SemanticDataset, folder: str, a_name: int, least_part: float
) -> Iterator[Picture]:
    """Photographs with some regions of each name, spread evenly over those that show it.

    Args:
        dataset: photographs with label maps.
        folder: what records call it.
        a_name: regions of each name.
        least_part: of its photograph that a region must cover, 0 to 1.
    """
    vocabulary = texts_of(dataset)
    named = {
        number: text
        for text, number in zip(vocabulary.labels.labels, vocabulary.classes, strict=True)
        if number != vocabulary.none
    }
    shown: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(len(dataset)):
        label_map = dataset[index].label_map
        numbers, counts = np.unique(label_map, return_counts=True)
        for number in numbers[counts >= least_part * label_map.size].tolist():
            if number in named:
                shown[number].append(index)
    taken: defaultdict[int, list[int]] = defaultdict(list)
    for number, indices in shown.items():
        count = min(a_name, len(indices))
        for place in np.linspace(0, len(indices) - 1, count).round().astype(int):
            taken[indices[place]].append(number)
    for index in sorted(taken):
        sample = dataset[index]
        regions = tuple(
            Region((named[number],), sample.label_map == number) for number in sorted(taken[index])
        )
        yield Picture(sample.image, regions, f"{folder}/train/{index}")
