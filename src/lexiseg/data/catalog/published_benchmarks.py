"""The semantic benchmarks of the papers, and where to get them."""

from collections.abc import Mapping
from dataclasses import replace

from lexiseg.data.catalog import published_layouts as layouts
from lexiseg.data.catalog.benchmarks import Benchmark

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
