"""The layout of one's own photographs with label maps.

ROOT/classes.json                 {"classes": {"0": "sky", "1": "sofa|couch", ...}, "ignore": 255}
ROOT/SPLIT/images/NAME.jpg        photographs (jpg, jpeg, png, webp, bmp)
ROOT/SPLIT/masks/NAME.png         palette or grey PNG, or TIFF, of the photograph's size: class ids

Without splits, ROOT/images and ROOT/masks.
"""

from collections.abc import Sequence
from pathlib import Path

from lexiseg.data.json_files import read_json
from lexiseg.data.semantic.dataset import (
    IGNORE_INDEX,
    LARGEST_ID,
    MaskFile,
    SemanticDataset,
    Vocabulary,
    few,
)
from lexiseg.prompts import LabelSet

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MASK_SUFFIXES = (".png", ".tif", ".tiff")


def read_semantic_folder(root: str | Path, split: str = "val") -> SemanticDataset:
    """The data set of a folder in the layout above.

    Raises:
        ValueError: a file or folder of the layout is missing, or a photograph has no mask.
    """
    root = Path(root)
    description = root / "classes.json"
    if not description.is_file():
        raise ValueError(f"{description} is missing: it names the classes of {root}")
    names, ids, ignored_id = _read_classes(description)
    part = root if (root / "images").is_dir() else root / split
    if not (part / "images").is_dir():
        splits = sorted(p.parent.name for p in root.glob("*/images"))
        raise ValueError(f"{part / 'images'} is missing; {root} has the splits {splits}")
    images = list_images(part / "images")
    labels = LabelSet.of(names)
    return SemanticDataset(
        name=root.name or root.resolve().name,
        split=split,
        class_names=labels.labels,
        class_ids=ids,
        ignored_ids=frozenset({ignored_id}),
        images=images,
        truths=tuple(MaskFile(mask) for mask in _masks(images, part / "masks")),
        vocabularies={"default": Vocabulary.one_each(labels)},
    )


def list_images(folder: Path) -> tuple[Path, ...]:
    """The photographs in a folder, sorted by name.

    Raises:
        ValueError: there are none.
    """
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise ValueError(f"{folder} holds no photographs ({', '.join(IMAGE_SUFFIXES)})")
    return tuple(images)


def _masks(images: Sequence[Path], folder: Path) -> list[Path]:
    """The mask of each photograph: the same name, another ending."""
    there = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    masks, lacking = [], []
    for image in images:
        names = [image.stem + suffix for suffix in MASK_SUFFIXES]
        found = next((name for name in names if name in there), None)
        if found is None:
            lacking.append(str(folder / names[0]))
        else:
            masks.append(folder / found)
    if lacking:
        raise ValueError(f"{len(lacking)} photographs have no mask, the first {lacking[0]}")
    return masks


def _read_classes(description: Path) -> tuple[list[str], tuple[int, ...], int]:
    """The names by rising id, the ids, and the id that is ignored."""
    form = '{"classes": {"0": "sky", ...}, "ignore": 255}'
    listed = read_json(description, form=form)
    try:
        numbered = [(int(index), name) for index, name in listed["classes"].items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{description} cannot be understood ({error!r}); it must be {form}"
        ) from error
    classes = dict(numbered)
    if len(classes) < len(numbered):
        raise ValueError(f"{description} names a class id twice, as 0 and 00; name it once")
    ignored_id = listed.get("ignore", IGNORE_INDEX)
    if type(ignored_id) is not int:  # True is an int too
        raise ValueError(f"{description}: ignore is {ignored_id!r}; it is one whole number")
    if not all(isinstance(name, str) and name.strip() for name in classes.values()):
        raise ValueError(f"{description} has a class whose name is no text; it must be {form}")
    if not classes or not all(0 <= index <= LARGEST_ID for index in classes):
        raise ValueError(
            f"{description}: class ids are {few(sorted(classes))}; they lie in 0 to {LARGEST_ID}"
        )
    if ignored_id in classes:
        raise ValueError(
            f"{description}: id {ignored_id} is ignored, but also names {classes[ignored_id]!r}"
        )
    if not 0 <= ignored_id <= LARGEST_ID:
        raise ValueError(f"{description}: ignore is {ignored_id}; ids lie in 0 to {LARGEST_ID}")
    ids = tuple(sorted(classes))
    names = [classes[index] for index in ids]
    try:
        LabelSet.of(names)
    except ValueError as error:
        raise ValueError(f"{description}: {error}") from error
    return names, ids, ignored_id
