"""Training samples drawn from several data sets, each scored against its own names.

Sample ``i`` depends on the seed and on ``i`` alone, so a run gives the same samples whatever the
number of workers, and goes on where it stopped.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from lexiseg.data import augment
from lexiseg.data.fingerprints import FileDigests
from lexiseg.data.semantic import IGNORE_INDEX, SemanticDataset, read_semantic_folder
from lexiseg.images import Preprocess, read_image

MOST_CUTOUTS = 2  # on one picture


@dataclass(frozen=True)
class TrainingSample:
    """One augmented picture and what is known of it.

    Attributes:
        image: normalised pixels; some models want them at another size than the label map's.
        label_map: class ids that index ``class_names``; ``ignore_index`` where nobody judged.
        class_names: the names this picture is scored against.
        image_label: id of the one name that describes the whole picture; None where there is none.
        ignore_index: 255, or 65535 where the label map had 16 bits.
        teacher_map: what a teacher sees, as ids that index ``teacher_names``; where it is not sure,
            ``ignore_index``. None without a teacher.
        teacher_names: the names that the teacher knows.
    """

    image: Float[Tensor, "3 H W"]
    label_map: Int[Tensor, "h w"]
    class_names: tuple[str, ...]
    image_label: int | None = None
    ignore_index: int = IGNORE_INDEX
    teacher_map: Int[Tensor, "h w"] | None = None
    teacher_names: tuple[str, ...] = ()


@runtime_checkable
class Teacher(Protocol):
    """Labels any photograph, and ignores the pixels of which it is not sure."""

    names: tuple[str, ...]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Ids that index ``names``, of 8 bits."""
        ...


@runtime_checkable
class Source(Protocol):
    """A data set that pictures are drawn from at random."""

    class_names: tuple[str, ...]

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int | None]:
        """A random photograph, its label map and, where there is one, its whole-image label."""
        ...

    def fingerprint(self) -> str:
        """What tells its files and names from others."""
        ...


class MaskSource:
    """Photographs with label maps."""

    def __init__(self, dataset: SemanticDataset) -> None:
        self.dataset = dataset
        self.class_names = dataset.class_names

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int | None]:
        """A random photograph with its label map."""
        sample = self.dataset[int(generator.integers(len(self.dataset)))]
        return sample.image, sample.label_map, None

    def fingerprint(self) -> str:
        """That of the data set."""
        return self.dataset.fingerprint()


class ImageLabelSource:
    """Photographs with one name for the whole picture: ROOT/labels.json, {image, name, split}."""

    def __init__(self, root: Path, split: str) -> None:
        rows = json.loads((root / "labels.json").read_text(encoding="utf-8"))
        self.rows = [(root / row["image"], row["name"]) for row in rows if row["split"] == split]
        self.class_names = tuple(sorted({name for _, name in self.rows}))

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int | None]:
        """A random photograph with its name; no pixel is labelled."""
        path, name = self.rows[int(generator.integers(len(self.rows)))]
        image = read_image(path)
        label_map = np.full(image.shape[:2], IGNORE_INDEX, np.uint8)
        return image, label_map, self.class_names.index(name)

    def fingerprint(self) -> str:
        """Names, sizes and dates of the photographs, and their labels."""
        files = FileDigests()
        return repr([(files.stamp(path), name) for path, name in self.rows])


class Cutouts:
    """Objects with an exact opacity map, for pasting: ROOT/cutouts.json, {image, alpha, name}."""

    def __init__(self, root: Path) -> None:
        rows = json.loads((root / "cutouts.json").read_text(encoding="utf-8"))
        self.rows = [(root / row["image"], root / row["alpha"], row["name"]) for row in rows]
        self.names = tuple(sorted({name for _, _, name in self.rows}))

    def paste(
        self,
        image: np.ndarray,
        label_maps: tuple[np.ndarray, ...],
        class_names: Sequence[str],
        generator: np.random.Generator,
        distractors: int = 16,
        synonyms: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[str, ...]]:
        """One or two objects on the picture; their names and some absent ones join the classes.

        The first label map gets their ids; the others ignore them. An object that the picture's
        own classes call by a synonym goes by their word, and no absent name is a synonym of one.
        """
        names = list(class_names)
        if len(names) + MOST_CUTOUTS > IGNORE_INDEX:
            label_maps = tuple(map(augment.widen, label_maps))
        ignored = tuple(augment.ignored_id(label_map) for label_map in label_maps[1:])
        for _ in range(int(generator.integers(1, MOST_CUTOUTS + 1))):
            cutout_path, alpha_path, name = self.rows[int(generator.integers(len(self.rows)))]
            name = next((n for n in names if name in synonyms.get(n, ())), name)
            if name not in names:
                names.append(name)
            image, label_maps = augment.paste_cutout(
                image,
                label_maps,
                cutout=read_image(cutout_path),
                alpha=read_image(alpha_path)[..., 0],
                class_ids=(names.index(name), *ignored),
                share=(0.25, 0.9),
                generator=generator,
            )
        said = {word for name in names for word in (name, *synonyms.get(name, ()))}
        absent = [n for n in generator.permutation(self.names)[:distractors] if n not in said]
        return image, label_maps, (*names, *map(str, absent))


@dataclass(frozen=True)
class MixtureConfig:
    """How samples are drawn and changed.

    Attributes:
        crop: side of the square samples, in pixels.
        longest: range of the picture's longer side before cropping, in pixels.
        stretch: largest change of the aspect ratio.
        jitter: strength of the colour changes.
        paste_probability: share of the samples with masks that get a cutout.
        synonym_probability: how often a name that has synonyms is called by one of them.
    """

    crop: int = 256
    longest: tuple[int, int] = (256, 640)
    stretch: float = 1.3
    jitter: float = 0.3
    paste_probability: float = 0.25
    synonym_probability: float = 0.0


class Mixture(Dataset[TrainingSample]):
    """``length`` samples from several sources, drawn in proportion to their weights.

    Args:
        sources: data sets, each with its weight.
        preprocess: how pixels reach the model.
        config: how samples are drawn and changed.
        length: number of samples.
        seed: of all chance.
        cutouts: objects for pasting.
        teacher: what labels each photograph besides.
        synonyms: other words for a name.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        *,
        preprocess: Preprocess,
        config: MixtureConfig,
        length: int,
        seed: int,
        cutouts: Cutouts | None = None,
        teacher: Teacher | None = None,
        synonyms: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if not sources:
            raise ValueError("a mixture needs at least one data set")
        weights = np.array([weight for _, weight in sources])
        self.sources = [source for source, _ in sources]
        self.shares = weights / weights.sum()
        self.preprocess = preprocess
        self.config = config
        self.length = length
        self.seed = seed
        self.cutouts = cutouts
        self.teacher = teacher
        self.synonyms = dict(synonyms or {})

    @property
    def names(self) -> list[str]:
        """Every name that a sample can be scored against."""
        cutouts = self.cutouts.names if self.cutouts else ()
        taught = self.teacher.names if self.teacher else ()
        names = {*cutouts, *taught, *(name for s in self.sources for name in s.class_names)}
        return sorted(names.union(*(self.synonyms.get(name, ()) for name in names)))

    def fingerprint(self) -> str:
        """A digest of all photographs, what is known of them, and the names."""
        parts = [source.fingerprint() for source in self.sources]
        if self.cutouts:
            files = FileDigests()
            parts += [
                repr([files.stamp(p) for p in row[:2]] + [row[2]]) for row in self.cutouts.rows
            ]
        return hashlib.sha256(repr((parts, self.names)).encode()).hexdigest()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TrainingSample:
        """Sample ``index``, the same at every call."""
        generator = np.random.default_rng((self.seed, index))
        source = self.sources[generator.choice(len(self.sources), p=self.shares)]
        image, label_map, image_label = source.draw(generator)
        taught = (self.teacher(image),) if self.teacher else ()
        label_maps: tuple[np.ndarray, ...] = (label_map, *taught)
        if len({each.dtype for each in label_maps}) > 1:  # one id for "ignored" in all of them
            label_maps = tuple(map(augment.widen, label_maps))
        names: tuple[str, ...] = source.class_names
        config = self.config
        paste = generator.random() < config.paste_probability
        if self.cutouts and paste and image_label is None:
            image, label_maps, names = self.cutouts.paste(
                image, label_maps, names, generator, synonyms=self.synonyms
            )
        longest = config.longest
        if image_label is not None:  # the object has to stay in the picture
            longest = (config.crop * 3 // 4, config.crop * 5 // 4)
        image, label_maps = augment.varied_crop(
            image,
            label_maps,
            size=config.crop,
            longest=longest,
            stretch=config.stretch,
            jitter=config.jitter,
            generator=generator,
        )
        pixels = torch.from_numpy(image).permute(2, 0, 1).float()
        maps = [torch.from_numpy(label_map).long() for label_map in label_maps]
        words = np.random.default_rng((self.seed, index, 2))  # not the chance of the pixels
        return TrainingSample(
            image=self.preprocess.normalise(pixels),
            label_map=maps[0],
            class_names=self._called(names, words),
            image_label=image_label,
            ignore_index=augment.ignored_id(label_maps[0]),
            teacher_map=maps[1] if self.teacher else None,
            teacher_names=self._called(self.teacher.names, words) if self.teacher else (),
        )

    def _called(self, names: Sequence[str], generator: np.random.Generator) -> tuple[str, ...]:
        """The names, some of them by a synonym that is not among them."""
        called = list(names)
        for place, name in enumerate(names):
            others = [other for other in self.synonyms.get(name, ()) if other not in called]
            if others and generator.random() < self.config.synonym_probability:
                called[place] = others[int(generator.integers(len(others)))]
        return tuple(called)


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
    teacher: Teacher | None = None,
    synonyms: Mapping[str, Sequence[str]] | None = None,
) -> Mixture:
    """The train splits that the bundled models learn from.

    Args:
        root: the folder of ``../shared/data``.
        preprocess: as in :class:`Mixture`; so are ``config``, ``length``, ``seed``, ``teacher``
            and ``synonyms``.
        config: see there.
        length: see there.
        seed: see there.
        shares: of each folder, the share of the samples that it gives.
        teacher: see there.
        synonyms: see there.

    Raises:
        ValueError: a folder is missing under ``root``.
    """
    root = Path(root)
    sources: list[tuple[Source, float]] = []
    for folder, weight in shares.items():
        if not (root / folder).is_dir():
            raise ValueError(f"{root / folder} is missing; the recipe needs {list(shares)}")
        if folder.startswith("image_labels"):
            sources.append((ImageLabelSource(root / folder, "train"), weight))
        else:
            sources.append((MaskSource(read_semantic_folder(root / folder, "train")), weight))
    cutouts = root / "cutouts" / "tuxpaint"
    return Mixture(
        sources,
        preprocess=preprocess,
        config=config,
        length=length,
        seed=seed,
        cutouts=Cutouts(cutouts) if cutouts.is_dir() else None,
        teacher=teacher,
        synonyms=synonyms,
    )
