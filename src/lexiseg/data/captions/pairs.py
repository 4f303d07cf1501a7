"""Photographs with captions, one item a caption, as SegCLIP (ICML 2023) is trained on them.

read_captions takes
FOLDER               photographs and captions.json (see files.py)
captions_NAME.json   COCO's captions
dataset_coco.json    Karpathy's splits; SegCLIP takes "train", 82,783 photographs of train2014
shards               webdataset tars: cc3m-{00000..00331}.tar, a folder of tars, or a list

Several are joined by torch's ConcatDataset.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8, UInt16
from PIL import Image as PILImage
from torch.utils.data import Dataset

from lexiseg.data.captions.files import folder_pairs, json_pairs
from lexiseg.data.captions.shards import Shard, find_shards, index_shard
from lexiseg.images import read_image
from lexiseg.superpixels import SuperpixelCache


@dataclass(frozen=True)
class CaptionSample:
    """One photograph with one of its captions, its name and, where asked for, its superpixels."""

    image: UInt8[np.ndarray, "H W 3"]
    caption: str
    name: str
    superpixels: UInt16[np.ndarray, "H W"] | None = None


@runtime_checkable
class Pairs(Protocol):
    """Photographs and captions, wherever they are kept."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], str, str]:
        """The photograph as it is stored, the caption and the name of one pair."""
        ...

    def words(self, index: int) -> tuple[str, str]:
        """The caption and the name of one pair; the photograph is not read."""
        ...

    def fingerprint(self) -> str:
        """A digest of which pairs these are."""
        ...


@dataclass(frozen=True)
class CaptionDataset(Dataset[CaptionSample]):
    """Photographs with captions; index it to read one pair, in any order and from any process.

    Attributes:
        pairs: where they are kept.
        shorter: larger photographs are shrunk to this shorter side; None leaves them as stored.
        superpixels: computes and keeps the superpixels of the shrunken photograph; None leaves
            them out.
    """

    pairs: Pairs
    shorter: int | None = None
    superpixels: SuperpixelCache | None = None

    def __len__(self) -> int:
        """The number of captions."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> CaptionSample:
        """Read one pair.

        Raises:
            ValueError: the photograph cannot be read; the message names it.
        """
        image, caption, name = self.pairs.read(range(len(self))[index])
        if self.shorter is not None:
            image = shrink(image, self.shorter)
        ids = None if self.superpixels is None else self.superpixels(image)
        return CaptionSample(image, caption, name, ids)

    def fingerprint(self) -> str:
        """A digest of which pairs these are and how they are prepared."""
        ids = None if self.superpixels is None else self.superpixels.fingerprint()
        return hashlib.sha256(
            repr((self.pairs.fingerprint(), self.shorter, ids)).encode()
        ).hexdigest()


@dataclass(frozen=True)
class ShardPairs:
    """Photographs in tar shards."""

    shards: tuple[Shard, ...]

    @cached_property
    def _ends(self) -> Int64[np.ndarray, " S"]:
        return np.cumsum([len(shard) for shard in self.shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], str, str]:
        """The photograph as it is stored, the caption and the name of one pair."""
        shard, index = self._place(index)
        key, data = shard.keys[index], shard.read_image(index)
        try:
            image = read_image(data)
        except ValueError as error:
            raise ValueError(
                f"{shard.path}: the image of {key!r} cannot be used: {error}"
            ) from error
        return image, shard.captions[index], key

    def words(self, index: int) -> tuple[str, str]:
        """The caption and the name of one pair; the photograph is not read."""
        shard, index = self._place(index)
        return shard.captions[index], shard.keys[index]

    def _place(self, index: int) -> tuple[Shard, int]:
        """The shard of a pair, and its number there."""
        position = int(np.searchsorted(self._ends, index, side="right"))
        shard = self.shards[position]
        return shard, index - int(self._ends[position]) + len(shard)

    def fingerprint(self) -> str:
        """A digest of the shards' names and sizes, and of the captions."""
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(repr((shard.path.name, shard.size)).encode("utf-8", "replace"))
            for array in (shard.captions.characters, shard.captions.ends, shard.places):
                digest.update(array.tobytes())
        return digest.hexdigest()


def read_captions(
    source: str | Path | Sequence[str | Path],
    *,
    split: str | None = None,
    images: str | Path | None = None,
    shorter: int | None = None,
    superpixels: SuperpixelCache | None = None,
    index_folder: str | Path | None = None,
) -> CaptionDataset:
    """The pairs of a folder, a JSON file or tar shards in one of the forms above.

    Args:
        source: what to read.
        split: the part of it; None takes all.
        images: the folder that the names in a JSON file start from; None looks near the file.
        shorter: as CaptionDataset has it; SegCLIP's is 224.
        superpixels: as CaptionDataset has it.
        index_folder: where the index of each shard is kept; None keeps it beside the shard.

    Raises:
        ValueError: something is missing, damaged or of another form; the message names it.
    """
    pairs: Pairs
    path = Path(source) if isinstance(source, (str, Path)) else None
    if path is not None and (path / "captions.json").is_file():
        pairs = folder_pairs(path, split)
    elif path is not None and path.suffix == ".json":
        pairs = json_pairs(path, split, None if images is None else Path(images))
    elif split is not None:
        raise ValueError(
            f"{source}: tar shards have no splits, but split is {split!r}; leave it out"
        )
    else:
        folder = None if index_folder is None else Path(index_folder)
        pairs = ShardPairs(tuple(index_shard(shard, folder) for shard in find_shards(source)))
    return CaptionDataset(pairs, shorter, superpixels)


def shrink(image: UInt8[np.ndarray, "H W 3"], shorter: int) -> UInt8[np.ndarray, "h w 3"]:
    """A photograph whose two sides are longer than ``shorter``, made smaller; others unchanged.

    The rule and filter (Lanczos) are those by which SegCLIP prepares its photographs. It then
    stores them as JPEG once more; that loss is left out.
    """
    height, width = image.shape[:2]
    if min(height, width) <= shorter:
        return image
    # Multiplied in this order, as published: the long side is rounded down.
    if width >= height:
        size = (int(shorter * (width / height)), shorter)
    else:
        size = (shorter, int(shorter / (width / height)))
    return np.array(PILImage.fromarray(image).resize(size, PILImage.Resampling.LANCZOS))
