"""Photographs with label maps, in the layout of one's own data.

ROOT/classes.json                 {"classes": {"0": "sky", ...}, "ignore": 255}
ROOT/SPLIT/images/NAME.jpg        photographs (jpg, jpeg, png, webp, bmp)
ROOT/SPLIT/masks/NAME.png         palette or grey PNG of the photograph's size: class ids
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from lexiseg.images import read_image, read_label_map

IGNORE_INDEX = 255
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class SemanticSample:
    """One photograph, its label map (positions in ``class_names``; 255: not judged) and name."""

    image: UInt8[np.ndarray, "H W 3"]
    label_map: UInt8[np.ndarray, "H W"]
    name: str


@dataclass(frozen=True)
class SemanticDataset:
    """Photographs with label maps; index it to read one pair.

    Attributes:
        name: what tables call it.
        class_names: the classes, in the order of their ids.
        class_ids: the number that stands for each of them in the mask files.
        ignored_id: the number in the mask files that no score counts.
        pairs: (photograph, mask) files.
    """

    name: str
    class_names: tuple[str, ...]
    class_ids: tuple[int, ...]
    ignored_id: int
    pairs: tuple[tuple[Path, Path], ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> SemanticSample:
        """Read one pair.

        Raises:
            ValueError: the mask has another size than the photograph, or an id without a name.
        """
        image_path, mask_path = self.pairs[index]
        image = read_image(image_path)
        label_map = read_label_map(mask_path)
        if label_map.shape != image.shape[:2]:
            raise ValueError(
                f"{mask_path}: {label_map.shape} (height, width), but the photograph "
                f"{image_path.name} is {image.shape[:2]}; a mask has exactly its photograph's size"
            )
        strange = set(np.unique(label_map).tolist()) - {*self.class_ids, self.ignored_id}
        if strange:
            raise ValueError(
                f"{mask_path}: class ids {sorted(strange)} have no name; classes.json names "
                f"{list(self.class_ids)} and ignores {self.ignored_id}"
            )
        position = np.full(256, IGNORE_INDEX, np.uint8)
        position[list(self.class_ids)] = np.arange(len(self.class_ids))
        return SemanticSample(image, position[label_map], image_path.stem)


def read_semantic_folder(root: str | Path, split: str) -> SemanticDataset:
    """The data set of a folder in the layout above.

    Raises:
        ValueError: a file or folder of the layout is missing, or a photograph has no mask.
    """
    root = Path(root)
    description = root / "classes.json"
    if not description.is_file():
        raise ValueError(f"{description} is missing: it names the classes of {root}")
    classes, ignored_id = _read_classes(description)
    if not classes or not all(0 <= index < IGNORE_INDEX for index in classes):
        raise ValueError(f"{description}: class ids are {sorted(classes)}; they lie in 0 to 254")
    folder = root / split / "images"
    if not folder.is_dir():
        splits = sorted(p.parent.name for p in root.glob("*/images"))
        raise ValueError(f"{folder} is missing; {root} has the splits {splits}")
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise ValueError(f"{folder} holds no photographs ({', '.join(IMAGE_SUFFIXES)})")
    pairs = tuple((path, root / split / "masks" / f"{path.stem}.png") for path in images)
    lacking = [str(mask) for _, mask in pairs if not mask.is_file()]
    if lacking:
        raise ValueError(f"{len(lacking)} photographs have no mask, the first {lacking[0]}")
    ids = tuple(sorted(classes))
    names = tuple(classes[index] for index in ids)
    return SemanticDataset(root.name, names, ids, ignored_id, pairs)


def _read_classes(description: Path) -> tuple[dict[int, str], int]:
    """The name of each class id, and the id that is ignored."""
    form = 'it must be {"classes": {"0": "sky", ...}, "ignore": 255}'
    try:
        listed = json.loads(description.read_text(encoding="utf-8"))
        classes = {int(index): name for index, name in listed["classes"].items()}
        ignored_id = int(listed.get("ignore", IGNORE_INDEX))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{description} cannot be understood ({error!r}); {form}") from error
    if not all(isinstance(name, str) and name.strip() for name in classes.values()):
        raise ValueError(f"{description} has a class whose name is no text; {form}")
    if len({name.casefold() for name in classes.values()}) < len(classes):
        raise ValueError(f"{description} gives one name to two classes; name each differently")
    return classes, ignored_id
