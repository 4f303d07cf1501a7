"""Photographs with sentences, from captions and names alone: no mask is ever read.

captions              photographs and captions.json
whole-image names     labels.json: {image, name, split}
names of scenes       the bundled assets/scene_names/train.json: which names a photograph shows
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8, UInt16
from torch import Tensor
from torch.utils.data import Dataset

from lexiseg.data.augment import varied_crop
from lexiseg.data.captions import CaptionDataset, read_captions, shrink
from lexiseg.data.semantic import list_images
from lexiseg.images import Preprocess, read_image
from lexiseg.superpixels import SuperpixelCache, crop_superpixels, patch_ids

# Share of the samples: of scenes by their names, each folder's part of it, and of the rest.
SCENES = {
    "scenes/msrc21": 0.22,
    "scenes/coco_mini": 0.14,
    "scenes/coco128": 0.07,
    "scenes/ccp_more": 0.06,
    "scenes/ccp": 0.02,
    "scenes/facades": 0.06,
    "objects/car_parts": 0.05,
}
NAMED = {"image_labels/caltech101": 0.16}
CAPTIONED = {"scenes/coco_mini": 0.18, "captions/coco": 0.04}
TEMPLATES = ("{}", "a photo of {}", "a picture that shows {}", "{} in a photo")
MOST_NAMES = 3  # of a sentence


@dataclass(frozen=True)
class Told:
    """A photograph with one thing said of it.

    Attributes:
        image: as it is stored.
        sentence: what is said.
        mentioned: the names in a sentence made of names; none in a caption.
        shown: all names that are known of the photograph.
    """

    image: UInt8[np.ndarray, "H W 3"]
    sentence: str
    mentioned: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class ToldCrop:
    """A crop of such a photograph.

    Attributes:
        image: normalised pixels.
        sentence: what is said of the whole photograph.
        mentioned: as in :class:`Told`.
        shown: likewise.
        superpixels: id of each cell.
    """

    image: Float[Tensor, "3 H W"]
    sentence: str
    mentioned: tuple[str, ...]
    shown: tuple[str, ...]
    superpixels: Int[Tensor, "h w"]

    def fits(self, other: "ToldCrop") -> bool:
        """Whether what is said of the other is as true of this one, as far as is known."""
        named = bool(other.mentioned) and set(other.mentioned) <= set(self.shown)
        return named or self.sentence == other.sentence


@runtime_checkable
class Teller(Protocol):
    """A data set of photographs of which something is known."""

    def draw(self, generator: np.random.Generator) -> Told:
        """A random photograph with a sentence."""
        ...

    def fingerprint(self) -> str:
        """What tells its files and words from others."""
        ...


class Named:
    """Photographs of which names are known; a sentence mentions up to three of them.

    Args:
        photographs: file and names; those without a name are left out.
    """

    def __init__(self, photographs: Sequence[tuple[Path, tuple[str, ...]]]) -> None:
        self.photographs = [row for row in photographs if row[1]]

    def draw(self, generator: np.random.Generator) -> Told:
        """A random photograph, and a sentence of random names of it."""
        path, names = self.photographs[int(generator.integers(len(self.photographs)))]
        count = min(len(names), int(generator.integers(1, MOST_NAMES + 1)))
        mentioned = tuple(names[i] for i in generator.permutation(len(names))[:count])
        template = TEMPLATES[int(generator.integers(len(TEMPLATES)))]
        return Told(read_image(path), template.format(listed(mentioned)), mentioned, names)

    def fingerprint(self) -> str:
        """Names and sizes of the photographs, and their names."""
        return repr([(p.name, p.stat().st_size, names) for p, names in self.photographs])


class Captioned:
    """Photographs with captions, each of which is a sentence."""

    def __init__(self, captions: CaptionDataset) -> None:
        self.captions = captions

    def draw(self, generator: np.random.Generator) -> Told:
        """A random caption with its photograph."""
        sample = self.captions[int(generator.integers(len(self.captions)))]
        return Told(sample.image, sample.caption)

    def fingerprint(self) -> str:
        """That of the captions."""
        return self.captions.fingerprint()


def listed(names: Sequence[str]) -> str:
    """The names as English lists them: "tree, cow and sky"."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


@dataclass(frozen=True)
class CropConfig:
    """How photographs are changed.

    Attributes:
        crop: side of the square samples, in pixels.
        cell: side of a cell of the group module, in pixels.
        longest: range of the longer side before cropping, in pixels.
        stretch: largest change of the aspect ratio.
        jitter: strength of the colour changes.
    """

    crop: int = 256
    cell: int = 16
    longest: tuple[int, int] = (256, 384)
    stretch: float = 1.2
    jitter: float = 0.3


class ToldCrops(Dataset[ToldCrop]):
    """``length`` crops of photographs with sentences; sample ``i`` depends on the seed and ``i``.

    Args:
        tellers: data sets, each with its weight.
        preprocess: its normalisation.
        superpixels: of a photograph whose shorter side is at most 224.
        config: how photographs are changed.
        length: number of samples.
        seed: of all chance.
    """

    def __init__(
        self,
        tellers: Sequence[tuple[Teller, float]],
        *,
        preprocess: Preprocess,
        superpixels: SuperpixelCache,
        config: CropConfig,
        length: int,
        seed: int,
    ) -> None:
        weights = np.array([weight for _, weight in tellers])
        self.tellers = [teller for teller, _ in tellers]
        self.shares = weights / weights.sum()
        self.preprocess = preprocess
        self.superpixels = superpixels
        self.config = config
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ToldCrop:
        """Sample ``index``, the same at every call."""
        generator = np.random.default_rng((self.seed, index))
        teller = self.tellers[generator.choice(len(self.tellers), p=self.shares)]
        told, config = teller.draw(generator), self.config
        image, (ids,) = varied_crop(
            told.image,
            (self._superpixels(told.image),),
            size=config.crop,
            longest=config.longest,
            stretch=config.stretch,
            jitter=config.jitter,
            generator=generator,
        )
        side = config.crop // config.cell
        pixels = torch.from_numpy(image).permute(2, 0, 1).float()
        return ToldCrop(
            image=self.preprocess.normalise(pixels),
            sentence=told.sentence,
            mentioned=told.mentioned,
            shown=told.shown,
            superpixels=torch.from_numpy(patch_ids(ids.astype(np.uint16), (side, side))),
        )

    def fingerprint(self) -> str:
        """A digest of all photographs, sentences and superpixels."""
        parts = [teller.fingerprint() for teller in self.tellers]
        parts.append(self.superpixels.fingerprint())
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _superpixels(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt16[np.ndarray, "H W"]:
        small = self.superpixels(shrink(image, 224))
        return crop_superpixels(small, (0.0, 0.0, 1.0, 1.0), (image.shape[0], image.shape[1]))


def told_crops(
    root: Path,
    *,
    preprocess: Preprocess,
    superpixels: SuperpixelCache,
    config: CropConfig,
    length: int,
    seed: int,
) -> ToldCrops:
    """The training photographs of the project's data sets with what may be said of them.

    Raises:
        ValueError: a folder is missing under ``root``.
    """
    missing = [name for name in (*SCENES, *NAMED, *CAPTIONED) if not (root / name).is_dir()]
    if missing:
        raise ValueError(f"{root} lacks {missing}; the recipe needs them")
    scenes = read_scene_names()
    tellers: list[tuple[Teller, float]] = []
    for folder, weight in SCENES.items():
        images = list_images(root / folder / "train" / "images")
        shown = scenes.get(folder, {})
        tellers.append((Named([(p, shown.get(p.stem, ())) for p in images]), weight))
    for folder, weight in NAMED.items():
        tellers.append((Named(_whole_image_names(root / folder)), weight))
    for folder, weight in CAPTIONED.items():
        split = "train" if folder.startswith("scenes") else None
        tellers.append((Captioned(read_captions(root / folder, split=split)), weight))
    return ToldCrops(
        [(teller, weight) for teller, weight in tellers if weight],
        preprocess=preprocess,
        superpixels=superpixels,
        config=config,
        length=length,
        seed=seed,
    )


def read_scene_names() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Of each folder and each of its training photographs, the names that it shows."""
    file = resources.files("lexiseg") / "assets" / "scene_names" / "train.json"
    folders = json.loads(file.read_text(encoding="utf-8"))
    return {
        folder: {
            photograph: tuple(content["names"][i] for i in ids)
            for photograph, ids in content["shown"].items()
        }
        for folder, content in folders.items()
    }


def _whole_image_names(root: Path) -> list[tuple[Path, tuple[str, ...]]]:
    rows = json.loads((root / "labels.json").read_text(encoding="utf-8"))
    return [(root / row["image"], (row["name"],)) for row in rows if row["split"] == "train"]
