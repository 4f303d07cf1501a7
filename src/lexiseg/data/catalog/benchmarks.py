"""The semantic benchmarks of the papers: classes, words, background, sizes, and where to get them.

With a background, the label maps tell all else from the classes. Who scores it:

voc20, context59      nobody: its pixels are ignored, and every pixel judged has a class
voc21, context60,     as class 0: a pixel that gets none of the labels, by a threshold or because
object81              one of the background names wins it
voc20b                as the last class: asked for by name, the 39 other words of context59
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from lexiseg.data.catalog import published_layouts as layouts
from lexiseg.data.catalog.layouts import Layout
from lexiseg.data.semantic import Vocabulary
from lexiseg.prompts import LabelSet, standard_list, standard_palette

BACKGROUND = "background"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, without its files.

    Attributes:
        name: what ``lexiseg evaluate`` calls it.
        title: what it is.
        class_list: the bundled list of its classes, without the background.
        authors: whose papers report it, and whose words it therefore has beside the default.
        counts: of each split, how many photographs those who publish count.
        layouts: where its files may lie; the first that is there is read.
        places: the folders under the root in which a layout may lie; "" is the root itself.
        images_from: where the photographs come from.
        masks_from: where the label maps come from.
        background: who scores it; "ignored" also where there is none.
        finer_list: a list with more classes of the same photographs, whose further names stand for
            the background.
    """

    name: str
    title: str
    class_list: str
    authors: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    layouts: tuple[Layout, ...]
    places: tuple[str, ...]
    images_from: str
    masks_from: str
    background: Literal["ignored", "first", "last"] = "ignored"
    finer_list: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the confusion matrix."""
        names = standard_list(self.class_list).labels
        return self._with_background(names, BACKGROUND)

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...] | None:
        """RGB of each class; the background is black."""
        colours = standard_palette(self.class_list)
        return None if colours is None else self._with_background(colours, (0, 0, 0))

    def vocabularies(self) -> dict[str, Vocabulary]:
        """The words for the classes: "default", and those of each of the authors."""
        return {
            "default": self._vocabulary(None),
            **{authors: self._vocabulary(authors) for authors in self.authors},
        }

    def _with_background(self, values: tuple[Value, ...], value: Value) -> tuple[Value, ...]:
        before = (value,) if self.background == "first" else ()
        after = (value,) if self.background == "last" else ()
        return before + values + after

    def _vocabulary(self, authors: str | None) -> Vocabulary:
        labels = standard_list(self.class_list, authors)
        count = len(labels)
        if self.background == "ignored":
            return Vocabulary.one_each(labels)
        others = self._finer_classes(authors)
        if self.background == "last":
            joined = LabelSet(labels.labels + others.labels, labels.names + others.names)
            return Vocabulary(joined, (*range(count), *[count] * len(others)), none=count)
        taken = {n.casefold() for names in (labels.labels, *labels.names) for n in names}
        background = tuple(n for n in others.labels if n.casefold() not in taken)
        return Vocabulary(labels, tuple(range(1, count + 1)), none=0, background=background)

    def _finer_classes(self, authors: str | None) -> LabelSet:
        """The classes of the finer list that are none of the benchmark's own."""
        if self.finer_list is None:
            raise ValueError(f"{self.name} has a background, but no list of names for it")
        # CAT-Seg writes a class alike in all its lists, and "unknown" says nothing.
        own = {names[0] for names in standard_list(self.class_list, "catseg").names} | {"unknown"}
        alike = [names[0] for names in standard_list(self.finer_list, "catseg").names]
        words = standard_list(self.finer_list, authors)
        kept = [i for i, name in enumerate(alike) if name not in own]
        return LabelSet(tuple(words.labels[i] for i in kept), tuple(words.names[i] for i in kept))


_ADE_ZIP = "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
_ADE_FULL = "https://groups.csail.mit.edu/vision/datasets/ADE20K/request_data/"
_VOC2012 = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
_VOC2010 = "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar"
_CONTEXT = "https://codalabuser.blob.core.windows.net/public/trainval_merged.json"
_CONTEXT459 = "https://roozbehm.info/pascal-context/trainval.tar.gz"
_COCO = "http://images.cocodataset.org/zips/val2017.zip (train2017.zip)"
_STUFF = (
    "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
    "stuffthingmaps_trainval2017.zip"
)
_CITYSCAPES = "https://www.cityscapes-dataset.com"

_VOC2012_PLACES = ("VOCdevkit/VOC2012", "VOC2012", "")
_VOC2010_PLACES = ("VOCdevkit/VOC2010", "VOC2010", "")
_COCO_PLACES = ("coco-stuff", "coco_stuff164k", "coco", "")
_ADE_PLACES = ("ADEChallengeData2016", "ade/ADEChallengeData2016", "")
_VOC_COUNTS = {"train": (1464,), "val": (1449,)}
# CAT-Seg's list has one photograph of val less than the annotations have.
_CONTEXT_COUNTS = {"train": (4998,), "val": (5104, 5105)}
_COCO_COUNTS = {"train": (118287,), "val": (5000,)}

_CONTEXT59 = Benchmark(
    name="context59",
    title="PASCAL Context, 59 classes, background ignored",
    class_list="pc59",
    authors=("catseg", "freeda"),
    counts=_CONTEXT_COUNTS,
    layouts=layouts.CONTEXT59,
    places=_VOC2010_PLACES,
    images_from=_VOC2010,
    masks_from=_CONTEXT,
)
_VOC20 = Benchmark(
    name="voc20",
    title="PASCAL VOC 2012, 20 classes, background ignored",
    class_list="voc20",
    authors=("catseg", "freeda"),
    counts=_VOC_COUNTS,
    layouts=layouts.VOC20,
    places=_VOC2012_PLACES,
    images_from=_VOC2012,
    masks_from=_VOC2012,
)

_ALL = (
    Benchmark(
        name="ade150",
        title="ADE20K, 150 classes",
        class_list="ade150",
        authors=("catseg", "freeda"),
        counts={"train": (20210,), "val": (2000,)},
        layouts=layouts.ADE150,
        places=_ADE_PLACES,
        images_from=_ADE_ZIP,
        masks_from=_ADE_ZIP,
    ),
    Benchmark(
        name="ade847",
        title="ADE20K full, 847 classes",
        class_list="ade847",
        authors=("catseg",),
        counts={"train": (25574,), "val": (2000,)},
        layouts=layouts.ADE847,
        places=("ADE20K_2021_17_01", ""),
        images_from=_ADE_FULL,
        masks_from=_ADE_FULL,
    ),
    _CONTEXT59,
    replace(
        _CONTEXT59,
        name="context60",
        title="PASCAL Context, 59 classes and background",
        authors=("segclip", "freeda"),
        layouts=layouts.CONTEXT60,
        background="first",
        finer_list="pc459",
    ),
    replace(
        _CONTEXT59,
        name="context459",
        title="PASCAL Context, 459 classes",
        class_list="pc459",
        authors=("catseg",),
        layouts=layouts.CONTEXT459,
        masks_from=_CONTEXT459,
    ),
    _VOC20,
    replace(
        _VOC20,
        name="voc20b",
        title="PASCAL VOC 2012, 20 classes, and background by 39 more words",
        authors=("catseg",),
        layouts=layouts.VOC20B,
        background="last",
        finer_list="pc59",
    ),
    replace(
        _VOC20,
        name="voc21",
        title="PASCAL VOC 2012, 20 classes and background",
        authors=("segclip", "freeda"),
        layouts=layouts.VOC21,
        background="first",
        finer_list="pc59",
    ),
    Benchmark(
        name="stuff171",
        title="COCO-Stuff 164k, 171 classes",
        class_list="stuff171",
        authors=("catseg", "freeda"),
        counts=_COCO_COUNTS,
        layouts=layouts.STUFF171,
        places=_COCO_PLACES,
        images_from=_COCO,
        masks_from=_STUFF,
    ),
    Benchmark(
        name="object81",
        title="COCO-Object, 80 things and background",
        class_list="coco80",
        authors=("segclip", "freeda"),
        counts=_COCO_COUNTS,
        layouts=layouts.OBJECT81,
        places=_COCO_PLACES,
        images_from=_COCO,
        masks_from=_STUFF,
        background="first",
        finer_list="stuff171",
    ),
    Benchmark(
        name="cityscapes19",
        title="Cityscapes, 19 classes",
        class_list="cityscapes19",
        authors=("freeda",),
        counts={"train": (2975,), "val": (500,)},
        layouts=layouts.CITYSCAPES19,
        places=("cityscapes", ""),
        images_from=f"{_CITYSCAPES} (leftImg8bit_trainvaltest.zip)",
        masks_from=f"{_CITYSCAPES} (gtFine_trainvaltest.zip)",
    ),
)
BENCHMARKS: Mapping[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
ALIASES: Mapping[str, str] = {
    "ade20k": "ade150",
    "ade20k_150": "ade150",
    "ade20k_847": "ade847",
    "pc59": "context59",
    "pc60": "context60",
    "pc459": "context459",
    "pas20": "voc20",
    "pas20b": "voc20b",
    "coco_stuff": "stuff171",
    "coco_object": "object81",
    "cityscapes": "cityscapes19",
}
