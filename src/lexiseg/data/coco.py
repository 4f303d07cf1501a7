"""COCO JSON: photographs whose objects are outlined by polygons or run lengths.

FILE.json    {"images": [{"id", "file_name", "height", "width"}, ...],
              "categories": [{"id", "name"}, ...],
              "annotations": [{"id", "image_id", "category_id", "segmentation"}, ...]}

The objects become a label map when a photograph is read:

- Where objects overlap, the smaller lies on top, so that the tie shows on the person; of two of the
  same size, the later in the file.
- A crowd (``iscrowd``) is its class like any other object.
- A pixel of no object is class 0, "background", as in the evaluation of COCO-Object; with
  ``background=False`` nobody judges it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt

from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.json_files import Row, read_coco_tables, size_of
from lexiseg.data.masks import RunLengths
from lexiseg.data.paths import check_all_there, inside
from lexiseg.data.semantic import BACKGROUND, SemanticDataset, Vocabulary
from lexiseg.prompts import LabelSet
from lexiseg.result import none_index


@dataclass(frozen=True)
class CocoObject:
    """One annotation: the class it belongs to and its outline as the file has it."""

    identity: int | str
    class_id: int
    segmentation: Any = field(repr=False)


@dataclass(frozen=True)
class CocoTruth:
    """The label map of one photograph, painted from its objects whenever it is read.

    Attributes:
        file: the JSON file.
        image: the photograph's name in it.
        size: (height, width) of the photograph.
        objects: what is painted.
        unlabelled: the id of a pixel of no object.
        dtype: of the ids.
    """

    file: Path
    image: str
    size: tuple[int, int]
    objects: tuple[CocoObject, ...]
    unlabelled: int
    dtype: type[np.unsignedinteger]

    @property
    def name(self) -> str:
        """The file and the photograph."""
        return f"{self.file} ({self.image})"

    def read(self) -> UInt[np.ndarray, "H W"]:
        """The class ids.

        Raises:
            ValueError: an outline is damaged or missing.
        """
        regions = [(self._region(each), each.class_id) for each in self.objects]
        regions.sort(key=lambda region: -region[0].area)
        label_map = np.full(self.size, self.unlabelled, self.dtype)
        for region, class_id in regions:
            label_map[region.mask()] = class_id
        return label_map

    def identity(self, files: FileDigests) -> tuple[Any, ...]:
        """The photograph's name, how it is painted, and the content of the file."""
        return (self.image, self.unlabelled, files.content(self.file))

    def _region(self, each: CocoObject) -> RunLengths:
        try:
            return RunLengths.of_segmentation(each.segmentation, self.size)
        except ValueError as error:
            raise ValueError(f"{self.name}: annotation {each.identity}: {error}") from error


def read_coco_json(
    path: str | Path,
    images: str | Path | None = None,
    *,
    split: str = "val",
    background: bool = True,
) -> SemanticDataset:
    """The data set of a COCO JSON file; its outlines are painted one photograph at a time.

    Categories that no annotation uses stay classes, so that all splits have the same; except those
    that only group others, as the first category in files of Roboflow does.

    Args:
        path: the file.
        images: the folder to which its file names are relative. By default the file's own folder,
            ``images`` or the split's name in it, or the same beside the file's folder: the first
            that has the first photograph.
        split: which part this is.
        background: whether a pixel of no object is the class "background" (a category of that
            name then is that class); otherwise no score counts such a pixel.

    Raises:
        ValueError: the file or a photograph is missing, ids or names stand twice, or an annotation
            is of no image or category of the file.
    """
    path = Path(path)
    tables = read_coco_tables(path)
    classes = _classes(path, tables, background=background)
    ignored = none_index(len(classes.names))
    objects = _objects_by_image(path, tables, classes.of_category)
    files = _image_files(path, list(tables["images"].values()), images, split)
    truths = tuple(
        CocoTruth(
            file=path,
            image=str(row["file_name"]),
            size=size_of(path, row),
            objects=tuple(objects.get(identity, ())),
            unlabelled=0 if background else ignored,
            dtype=np.uint8 if ignored == 255 else np.uint16,
        )
        for identity, row in tables["images"].items()
    )
    home = path.resolve().parent
    return SemanticDataset(
        name=home.parent.name if home.name in (split, "annotations") else home.name,
        split=split,
        class_names=classes.names,
        class_ids=tuple(range(len(classes.names))),
        ignored_ids=frozenset({ignored}),
        images=files,
        truths=truths,
        vocabularies={"default": classes.words},
    )


@dataclass(frozen=True)
class _Classes:
    """The classes of a file, which of them each category is, and the words that ask for them."""

    names: tuple[str, ...]
    of_category: Mapping[int | str, int]
    words: Vocabulary


def _classes(
    path: Path, tables: Mapping[str, Mapping[int | str, Row]], *, background: bool
) -> _Classes:
    """The categories, after the class "background" where it is asked for."""
    named = _named_categories(path, tables)
    if not background:
        labels = _labels(path, list(named.values()))
        places = {identity: place for place, identity in enumerate(named)}
        return _Classes(labels.labels, places, Vocabulary.one_each(labels))
    others = {key: name for key, name in named.items() if name.casefold() != BACKGROUND}
    labels = _labels(path, list(others.values()))
    places = {identity: place + 1 for place, identity in enumerate(others)}
    words = Vocabulary(labels, tuple(places.values()), none=0, background=(BACKGROUND,))
    return _Classes((BACKGROUND, *labels.labels), dict.fromkeys(named, 0) | places, words)


def _named_categories(
    path: Path, tables: Mapping[str, Mapping[int | str, Row]]
) -> dict[int | str, str]:
    """Of the categories that are classes the names by id, in the file's order."""
    categories = tables["categories"]
    used = {str(row.get("category_id")) for row in tables["annotations"].values()}
    groups = [
        row.get("supercategory")
        for row in categories.values()
        if row.get("supercategory") not in (None, row.get("name"))
    ]
    named: dict[int | str, str] = {}
    for identity, row in categories.items():
        name = row.get("name")
        if name in groups and str(identity) not in used:
            continue
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{path}: category {identity} is called {name!r}; give it a name")
        named[identity] = name
    return named


def _labels(path: Path, names: Sequence[str]) -> LabelSet:
    try:
        return LabelSet.of(names)
    except ValueError as error:
        raise ValueError(f"{path}: its categories: {error}") from error


def _objects_by_image(
    path: Path,
    tables: Mapping[str, Mapping[int | str, Row]],
    of_category: Mapping[int | str, int],
) -> dict[int | str, list[CocoObject]]:
    objects: dict[int | str, list[CocoObject]] = {}
    for identity, row in tables["annotations"].items():
        image, category = row.get("image_id"), row.get("category_id")
        if not isinstance(image, int | str) or image not in tables["images"]:
            raise ValueError(f"{path}: annotation {identity}: no image has the id {image!r}")
        if not isinstance(category, int | str) or category not in of_category:
            raise ValueError(f"{path}: annotation {identity}: no category has the id {category!r}")
        each = CocoObject(identity, of_category[category], row.get("segmentation"))
        objects.setdefault(image, []).append(each)
    return objects


def _image_files(
    path: Path, rows: Sequence[Row], images: str | Path | None, split: str
) -> tuple[Path, ...]:
    """The photographs, all of which are there."""
    if not rows:
        raise ValueError(f"{path} lists no images")
    names = [row.get("file_name") for row in rows]
    if images is not None:
        folder = Path(images)
    else:
        part = path.stem.rpartition("_")[2]  # instances_val2017.json
        below = ("", "images", split, f"images/{split}", part, f"images/{part}")
        folders = [place / sub for place in (path.parent, path.parent.parent) for sub in below]
        first = [inside(folder, names[0], source=str(path)) for folder in folders]
        there = [folder for folder, file in zip(folders, first, strict=True) if file.is_file()]
        if not there:
            raise ValueError(
                f"{path}: its first photograph, {names[0]}, is in none of "
                f"{', '.join(str(folder) for folder in dict.fromkeys(folders))}"
            )
        folder = there[0]
    files = tuple(inside(folder, name, source=str(path)) for name in names)
    check_all_there(files, source=str(path))
    return files
