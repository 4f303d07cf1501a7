"""Photographs with sentences, from captions and names alone: no mask is ever read.

captions              photographs and captions.json
whole-image names     labels.json: {image, name, split}
names of scenes       the bundled assets/scene_names/train.json: which names a photograph shows
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8, UInt16
from torch import Tensor
from torch.utils.data import Dataset

from lexiseg.data.augment import varied_crop
from lexiseg.data.captions import read_captions, shrink
from lexiseg.data.fingerprints import joint
from lexiseg.data.mixture.sources import read_image_labels
from lexiseg.data.semantic import list_images
from lexiseg.images import Preprocess
from lexiseg.superpixels import SuperpixelCache, crop_superpixels, patch_ids
from lexiseg.training.tellers import Captioned, Named, Teller

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


@dataclass(frozen=True)
class ToldCrop:
    """A crop of such a photograph.

    Attributes:
        image: normalised pixels.
        sentence: what is said of the whole photograph.
        mentioned: as in :class:`~lexiseg.training.tellers.Told`.
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
        told = [teller.fingerprint() for teller in self.tellers]
        return joint([*told, self.superpixels.fingerprint()])

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
        labels = read_image_labels(root / folder, "train")
        tellers.append((Named([(path, (name,)) for path, name in labels]), weight))
    for folder, weight in CAPTIONED.items():
        split = "train" if folder.startswith("scenes") else None
        tellers.append((Captioned(read_captions(root / folder, split=split)), weight))
    return ToldCrops(
        tellers,
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
