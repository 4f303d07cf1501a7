"""Data sets that a mixture draws photographs from, each with what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8, UInt16

from lexiseg.data.captions import CaptionDataset
from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.json_files import read_text_rows
from lexiseg.data.semantic import IGNORE_INDEX, SemanticDataset
from lexiseg.images import read_image


@dataclass(frozen=True)
class Drawn:
    """A photograph as a source gives it.

    Attributes:
        image: as it is stored.
        label_map: ids that index ``class_names``; 255, or 65535 in 16 bits, where nobody judged.
        class_names: the names it is scored against.
        image_label: id of the one name that describes the whole picture; None where there is none.
    """

    image: UInt8[np.ndarray, "H W 3"]
    label_map: UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]
    class_names: tuple[str, ...]
    image_label: int | None = None


@runtime_checkable
class Source(Protocol):
    """A data set that pictures are drawn from at random.

    Attributes:
        class_names: every name that a picture can be scored against.
    """

    class_names: tuple[str, ...]

    def draw(self, generator: np.random.Generator) -> Drawn:
        """A random photograph with what is known of it."""
        ...

    def fingerprint(self) -> str:
        """What tells its files and names from others."""
        ...


class MaskSource:
    """Photographs with label maps."""

    def __init__(self, dataset: SemanticDataset) -> None:
        self.dataset = dataset
        self.class_names = dataset.class_names

    def draw(self, generator: np.random.Generator) -> Drawn:
        """A random photograph with its label map."""
        sample = self.dataset[int(generator.integers(len(self.dataset)))]
        return Drawn(sample.image, sample.label_map, self.class_names)

    def fingerprint(self) -> str:
        """That of the data set."""
        return self.dataset.fingerprint()


class ImageLabelSource:
    """Photographs with one name for the whole picture; see :func:`read_image_labels`."""

    def __init__(self, root: Path, split: str) -> None:
        self.rows = read_image_labels(root, split)
        self.class_names = tuple(sorted({name for _, name in self.rows}))

    def draw(self, generator: np.random.Generator) -> Drawn:
        """A random photograph with its name; no pixel is labelled."""
        path, name = self.rows[int(generator.integers(len(self.rows)))]
        return unlabelled(read_image(path), self.class_names, self.class_names.index(name))

    def fingerprint(self) -> str:
        """Names, sizes and dates of the photographs, and their labels."""
        files = FileDigests()
        return repr([(files.stamp(path), name) for path, name in self.rows])


class PhotographSource:
    """Photographs of which nothing is known, for what teachers see on them."""

    class_names: tuple[str, ...] = ()

    def __init__(self, images: Sequence[Path]) -> None:
        self.images = tuple(images)

    def draw(self, generator: np.random.Generator) -> Drawn:
        """A random photograph."""
        return unlabelled(read_image(self.images[int(generator.integers(len(self.images)))]), ())

    def fingerprint(self) -> str:
        """Names, sizes and dates of the photographs."""
        files = FileDigests()
        return repr([files.stamp(path) for path in self.images])


class CaptionSource:
    """Photographs with captions; the right one is a whole-image name among those of others.

    Args:
        captions: photographs with captions, one item a caption.
        others: captions of other photographs that a picture is scored against.
    """

    def __init__(self, captions: CaptionDataset, *, others: int = 63) -> None:
        pairs = [captions.pairs.words(index) for index in range(len(captions))]
        self.captions = captions
        self.others = others
        self.pictures = [picture for _, picture in pairs]
        self.sentences = [sentence for sentence, _ in pairs]
        self.class_names = tuple(dict.fromkeys(self.sentences))

    def draw(self, generator: np.random.Generator) -> Drawn:
        """A random photograph with one of its captions, first among the names."""
        index = int(generator.integers(len(self.captions)))
        own = {
            sentence
            for sentence, picture in zip(self.sentences, self.pictures, strict=True)
            if picture == self.pictures[index]
        }
        others = [self.class_names[i] for i in generator.permutation(len(self.class_names))]
        wrong = [sentence for sentence in others if sentence not in own][: self.others]
        return unlabelled(self.captions[index].image, (self.sentences[index], *wrong), 0)

    def fingerprint(self) -> str:
        """That of the captions."""
        return self.captions.pairs.fingerprint()


def read_image_labels(root: Path, split: str) -> list[tuple[Path, str]]:
    """The photographs of ROOT/labels.json, rows {image, name, split}, each with its one name.

    Raises:
        ValueError: the file is missing or of another form, or has no photograph of the split.
    """
    path = root / "labels.json"
    rows = read_text_rows(path, "image", "name", "split")
    found = [(root / image, name) for image, name, part in rows if part == split]
    if not found:
        raise ValueError(f"{path} has no photographs of the split {split!r}")
    return found


def unlabelled(
    image: UInt8[np.ndarray, "H W 3"], class_names: tuple[str, ...], image_label: int | None = None
) -> Drawn:
    """A photograph of which no pixel is labelled."""
    return Drawn(image, np.full(image.shape[:2], IGNORE_INDEX, np.uint8), class_names, image_label)
