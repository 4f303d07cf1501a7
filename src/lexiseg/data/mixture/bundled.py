"""The mixtures that the bundled models learn from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lexiseg.data.captions import read_captions
from lexiseg.data.mixture.cutouts import Cutouts
from lexiseg.data.mixture.held_out import HeldOut, TeacherWithout, without
from lexiseg.data.mixture.mixture import Mixture, MixtureConfig, Teacher
from lexiseg.data.mixture.sources import (
    CaptionSource,
    ImageLabelSource,
    MaskSource,
    PhotographSource,
    Source,
)
from lexiseg.data.semantic import list_images, read_semantic_folder
from lexiseg.images import Preprocess

# Weight of each folder of the project's own training photographs: the share of samples it gives.
BUNDLED_SOURCES = {
    "scenes/msrc21": 0.34,
    "scenes/coco_mini": 0.15,
    "scenes/coco128": 0.07,
    "scenes/ccp_more": 0.08,
    "scenes/ccp": 0.03,
    "scenes/facades": 0.09,
    "objects/car_parts": 0.06,
    "image_labels/caltech101": 0.18,
}


def bundled_mixture(
    root: str | Path,
    *,
    preprocess: Preprocess,
    config: MixtureConfig,
    length: int,
    seed: int,
    shares: Mapping[str, float] = BUNDLED_SOURCES,
    teachers: Sequence[Teacher] = (),
    synonyms: Mapping[str, Sequence[str]] | None = None,
    unseen: float = 0.0,
    masks_only: bool = False,
) -> Mixture:
    """The train splits that the bundled models learn from.

    Args:
        root: the folder of ``../shared/data``.
        preprocess: as in :class:`Mixture`; so are ``config``, ``length``, ``seed``, ``teachers``
            and ``synonyms``.
        config: see there.
        length: see there.
        seed: see there.
        shares: of each folder, the share of the samples that it gives.
        teachers: see there.
        synonyms: see there.
        unseen: share of the names that are held out, with all that would teach them.
        masks_only: of what would teach them, hold out labelled pixels alone: masks, cutouts and
            what teachers see. Whole-image names stay as they are.

    Raises:
        ValueError: a folder is missing under ``root``.
    """
    root = Path(root)
    sources = _sources(root, shares)
    place = root / "cutouts" / "tuxpaint"
    cutouts = Cutouts(place) if place.is_dir() else None
    if unseen:
        held_out = _held_out(sources, unseen, synonyms or {})
        sources = [(without(s, held_out, masks_only=masks_only), weight) for s, weight in sources]
        teachers = [TeacherWithout(teacher, held_out) for teacher in teachers]
        cutouts = Cutouts(place, held_out) if cutouts else None
        synonyms = {
            name: [word for word in words if name in held_out or word not in held_out]
            for name, words in (synonyms or {}).items()
        }
    return Mixture(
        sources,
        preprocess=preprocess,
        config=config,
        length=length,
        seed=seed,
        cutouts=cutouts,
        teachers=teachers,
        synonyms=synonyms,
    )


def bundled_held_out(
    root: str | Path,
    share: float,
    synonyms: Mapping[str, Sequence[str]],
    *,
    shares: Mapping[str, float] = BUNDLED_SOURCES,
) -> HeldOut:
    """What :func:`bundled_mixture` leaves out; its arguments and errors are the same."""
    return _held_out(_sources(Path(root), shares), share, synonyms)


def _held_out(
    sources: Sequence[tuple[Source, float]], share: float, synonyms: Mapping[str, Sequence[str]]
) -> HeldOut:
    return HeldOut({name for s, _ in sources for name in s.class_names}, share, synonyms)


def _sources(root: Path, shares: Mapping[str, float]) -> list[tuple[Source, float]]:
    sources: list[tuple[Source, float]] = []
    for folder, weight in shares.items():
        if not (root / folder).is_dir():
            raise ValueError(f"{root / folder} is missing; the recipe needs {list(shares)}")
        if folder.startswith("image_labels"):
            sources.append((ImageLabelSource(root / folder, "train"), weight))
        else:
            sources.append((MaskSource(read_semantic_folder(root / folder, "train")), weight))
    return sources


# Photographs that have masks; the weak mixture does not read these.
SCENES = (
    *("scenes/msrc21", "scenes/coco_mini", "scenes/coco128", "scenes/ccp_more", "scenes/ccp"),
    *("scenes/facades", "objects/car_parts"),
)
WEAK_SHARES = {"photographs": 0.4, "names": 0.3, "captions": 0.3}


def weak_mixture(
    root: str | Path,
    *,
    preprocess: Preprocess,
    config: MixtureConfig,
    length: int,
    seed: int,
    teachers: Sequence[Teacher],
    synonyms: Mapping[str, Sequence[str]] | None = None,
) -> Mixture:
    """Photographs without their masks, photographs with one name, photographs with captions.

    Arguments and errors are those of :func:`bundled_mixture`; no file of masks is opened.
    """
    root = Path(root)
    folders = [root / folder / "train" / "images" for folder in SCENES]
    named, captioned = root / "image_labels" / "caltech101", root / "scenes" / "coco_mini"
    more = root / "captions" / "coco"
    for folder in (*folders, named, captioned, more):
        if not folder.is_dir():
            raise ValueError(f"{folder} is missing; the recipe needs it")
    captions = [
        CaptionSource(read_captions(captioned, split="train")),
        CaptionSource(read_captions(more)),
    ]
    count = sum(len(source.captions) for source in captions)
    shares = WEAK_SHARES
    sources: list[tuple[Source, float]] = [
        (PhotographSource([p for f in folders for p in list_images(f)]), shares["photographs"]),
        (ImageLabelSource(named, "train"), shares["names"]),
        *((each, shares["captions"] * len(each.captions) / count) for each in captions),
    ]
    return Mixture(
        sources,
        preprocess=preprocess,
        config=config,
        length=length,
        seed=seed,
        teachers=teachers,
        synonyms=synonyms,
    )
