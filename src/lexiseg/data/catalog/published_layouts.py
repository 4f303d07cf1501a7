"""The layouts of each benchmark: folders, suffixes, and which number stands for which class.

Those that are complete once unpacked come first; where several are there, the first one is read,
and all of a benchmark give the same label maps.
"""

from collections.abc import Mapping

from lexiseg.data.catalog.layouts import COCO_GAPS, Layout


def _from(first: int, count: int, position: int = 0) -> dict[int, int]:
    """``count`` numbers from ``first`` on stand for the classes from ``position`` on."""
    return {first + i: position + i for i in range(count)}


_COCO_171 = {v: i for i, v in enumerate(v for v in range(182) if v not in COCO_GAPS)}


def _objects(position_in_171: Mapping[int, int]) -> dict[int, int]:
    """Things follow the background, class 0, to which all else belongs, 255 and gaps included."""
    things = {v: i + 1 for v, i in position_in_171.items() if i < 80}
    return dict.fromkeys([*COCO_GAPS, *position_in_171, 255], 0) | things


_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_ADE_SPLITS = {"train": "training", "val": "validation"}
_COCO_SPLITS = {"train": "train2017", "val": "val2017"}
_VOID = frozenset({255})
_OUTSIDE = frozenset({0, 255})


def _ade(masks: str, authors: str, first: int, ignored: frozenset[int]) -> Layout:
    return Layout(authors, "images/{}", masks, _from(first, 150), ignored, splits=_ADE_SPLITS)


ADE150 = (
    _ade("annotations/{}", "the download, and mmsegmentation", 1, _OUTSIDE),
    _ade("annotations_detectron2/{}", "CAT-Seg", 0, _VOID),
)
ADE847 = (
    Layout(
        authors="CAT-Seg",
        images="images_detectron2/{}",
        masks="annotations_detectron2/{}",
        ids=_from(0, 847),
        ignored=frozenset({65535}),
        splits=_ADE_SPLITS,
        mask_suffix=".tif",
        prepared=("images", "masks"),
    ),
)


def _voc(ids: Mapping[int, int], ignored: frozenset[int]) -> Layout:
    return Layout(
        authors="the download, and mmsegmentation",
        images="JPEGImages",
        masks="SegmentationClass",
        ids=ids,
        ignored=ignored,
        listing="ImageSets/Segmentation/{}.txt",
    )


def _context(ids: Mapping[int, int], ignored: frozenset[int], *prepared: str) -> Layout:
    return Layout(
        authors="mmsegmentation",
        images="JPEGImages",
        masks="SegmentationClassContext",
        ids=ids,
        ignored=ignored,
        listing="ImageSets/SegmentationContext/{}.txt",
        prepared=prepared,
    )


def _detectron2(
    masks: str,
    ids: Mapping[int, int],
    ignored: frozenset[int],
    *prepared: str,
    mask_suffix: str = ".png",
) -> Layout:
    """CAT-Seg's folders beside VOC's photographs."""
    return Layout(
        authors="CAT-Seg",
        images="JPEGImages",
        masks=f"annotations_detectron2{masks}",
        ids=ids,
        ignored=ignored,
        mask_suffix=mask_suffix,
        masks_decide=True,
        prepared=prepared,
    )


VOC20 = (
    _voc(_from(1, 20), _OUTSIDE),
    _detectron2("/{}", _from(0, 20), _VOID),
    _detectron2("_bg/{}", _from(0, 20), frozenset({20, 255})),
)
VOC20B = (_voc({**_from(1, 20), 0: 20}, _VOID), _detectron2("_bg/{}", _from(0, 21), _VOID))
VOC21 = (_voc(_from(0, 21), _VOID), _detectron2("_bg/{}", {**_from(0, 20, 1), 20: 0}, _VOID))
CONTEXT59 = (
    _detectron2("/pc59_{}", _from(0, 59), _VOID, "masks"),
    _context(_from(1, 59), _OUTSIDE),
)
CONTEXT60 = (
    _context(_from(0, 60), _VOID, "masks", "listing"),
    _detectron2("/pc59_{}", {**_from(0, 59, 1), 255: 0}, frozenset()),
)
CONTEXT459 = (
    _detectron2("/pc459_{}", _from(0, 459), frozenset({459}), "masks", mask_suffix=".tif"),
)


def _coco(
    masks: str,
    ids: Mapping[int, int],
    ignored: frozenset[int],
    suffix: str = ".png",
    *,
    images: str = "images/{}",
    authors: str = "the download",
) -> Layout:
    return Layout(authors, images, masks, ids, ignored, splits=_COCO_SPLITS, mask_suffix=suffix)


def _stuff(
    ids: Mapping[int, int],
    ids_171: Mapping[int, int],
    ignored: frozenset[int],
    void: frozenset[int],
) -> tuple[Layout, ...]:
    """The layouts of COCO-Stuff, for its own classes or for what is made of them."""
    return (
        _coco("annotations/{}", ids, ignored),
        _coco("stuffthingmaps/{}", ids, ignored),
        _coco("stuffthingmaps/{}", ids, ignored, images="{}"),
        _coco("annotations/{}", ids_171, void, "_labelTrainIds.png", authors="mmsegmentation"),
        _coco("annotations_detectron2/{}", ids_171, void, authors="CAT-Seg"),
    )


STUFF171 = _stuff(_COCO_171, _from(0, 171), COCO_GAPS | _VOID, _VOID)
_OBJECTS_OF_STUFF = _stuff(_objects(_COCO_171), _objects(_from(0, 171)), frozenset(), frozenset())
OBJECT81 = (
    *_OBJECTS_OF_STUFF[:3],
    _coco(
        "annotations/{}",
        _from(0, 81),
        _VOID,
        "_instanceTrainIds.png",
        authors="GroupViT, SegCLIP and FreeDA",
    ),
    *_OBJECTS_OF_STUFF[3:],
)


def _cityscapes(suffix: str, ids: Mapping[int, int], ignored: frozenset[int], by: str) -> Layout:
    return Layout(
        authors=by,
        images="leftImg8bit/{}",
        masks="gtFine/{}",
        ids=ids,
        ignored=ignored,
        image_suffix="_leftImg8bit.png",
        mask_suffix=f"_gtFine_{suffix}.png",
    )


CITYSCAPES19 = (
    _cityscapes(
        "labelIds",
        {v: i for i, v in enumerate(_CITYSCAPES_IDS)},
        frozenset(range(34)) - frozenset(_CITYSCAPES_IDS),
        "the download",
    ),
    _cityscapes("labelTrainIds", _from(0, 19), _VOID, "mmsegmentation"),
)
