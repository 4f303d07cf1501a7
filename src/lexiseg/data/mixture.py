"""Training samples drawn from several data sets, each scored against its own names.

Sample ``i`` depends on the seed and on ``i`` alone, so a run gives the same samples whatever the
number of workers, and goes on where it stopped.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from lexiseg.data import augment
from lexiseg.data.semantic import IGNORE_INDEX, SemanticDataset, read_semantic_folder
from lexiseg.images import Preprocess, read_image


@dataclass(frozen=True)
class TrainingSample:
    """One augmented picture and what is known of it.

    Attributes:
        image: normalised pixels.
        label_map: class ids that index ``class_names``; ``IGNORE_INDEX`` where nobody judged.
        class_names: the names this picture is scored against.
        image_label: id of the one name that describes the whole picture; None where there is none.
    """

    image: Float[Tensor, "3 H W"]
    label_map: Int[Tensor, "H W"]
    class_names: tuple[str, ...]
    image_label: int | None = None


@runtime_checkable
class Source(Protocol):
    """A data set that pictures are drawn from at random."""

    class_names: tuple[str, ...]

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int | None]:
        """A random photograph, its label map and, where there is one, its whole-image label."""
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


class Cutouts:
    """Objects with an exact opacity map, for pasting: ROOT/cutouts.json, {image, alpha, name}."""

    def __init__(self, root: Path) -> None:
        rows = json.loads((root / "cutouts.json").read_text(encoding="utf-8"))
        self.rows = [(root / row["image"], root / row["alpha"], row["name"]) for row in rows]
        self.names = tuple(sorted({name for _, _, name in self.rows}))

    def paste(
        self,
        image: np.ndarray,
        label_map: np.ndarray,
        class_names: Sequence[str],
        generator: np.random.Generator,
        distractors: int = 16,
    ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """One or two objects on the picture; their names and some absent ones join the classes."""
        names = list(class_names)
        for _ in range(int(generator.integers(1, 3))):
            cutout_path, alpha_path, name = self.rows[int(generator.integers(len(self.rows)))]
            if name not in names:
                names.append(name)
            image, label_map = augment.paste_cutout(
                image,
                label_map,
                cutout=read_image(cutout_path),
                alpha=read_image(alpha_path)[..., 0],
                class_id=names.index(name),
                share=(0.25, 0.9),
                generator=generator,
            )
        absent = [n for n in generator.permutation(self.names)[:distractors] if n not in names]
        return image, label_map, (*names, *map(str, absent))


@dataclass(frozen=True)
class MixtureConfig:
    """How samples are drawn and changed.

    Attributes:
        crop: side of the square samples, in pixels.
        longest: range of the picture's longer side before cropping, in pixels.
        stretch: largest change of the aspect ratio.
        jitter: strength of the colour changes.
        paste_probability: share of the samples with masks that get a cutout.
    """

    crop: int = 256
    longest: tuple[int, int] = (256, 640)
    stretch: float = 1.3
    jitter: float = 0.3
    paste_probability: float = 0.25


class Mixture(Dataset[TrainingSample]):
    """``length`` samples from several sources, drawn in proportion to their weights."""

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        *,
        preprocess: Preprocess,
        config: MixtureConfig,
        length: int,
        seed: int,
        cutouts: Cutouts | None = None,
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

    @property
    def names(self) -> list[str]:
        """Every name that a sample can be scored against."""
        cutouts = self.cutouts.names if self.cutouts else ()
        return sorted({*cutouts, *(name for s in self.sources for name in s.class_names)})

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TrainingSample:
        """Sample ``index``, the same at every call."""
        generator = np.random.default_rng((self.seed, index))
        source = self.sources[generator.choice(len(self.sources), p=self.shares)]
        image, label_map, image_label = source.draw(generator)
        names: tuple[str, ...] = source.class_names
        config = self.config
        paste = generator.random() < config.paste_probability
        if self.cutouts and paste and image_label is None:
            image, label_map, names = self.cutouts.paste(image, label_map, names, generator)
        longest = config.longest
        if image_label is not None:  # the object has to stay in the picture
            longest = (config.crop * 3 // 4, config.crop * 5 // 4)
        image, label_map = augment.random_resized_crop(
            image,
            label_map,
            size=config.crop,
            longest=longest,
            stretch=config.stretch,
            ignore_index=IGNORE_INDEX,
            generator=generator,
        )
        image, label_map = augment.random_flip(image, label_map, generator=generator)
        image = augment.colour_jitter(image, strength=config.jitter, generator=generator)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float()
        return TrainingSample(
            image=self.preprocess.normalise(pixels),
            label_map=torch.from_numpy(label_map).long(),
            class_names=names,
            image_label=image_label,
        )


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
    root: str | Path, *, preprocess: Preprocess, config: MixtureConfig, length: int, seed: int
) -> Mixture:
    """The train splits that the bundled models learn from.

    Raises:
        ValueError: a folder is missing under ``root``.
    """
    root = Path(root)
    sources: list[tuple[Source, float]] = []
    for folder, weight in BUNDLED_SOURCES.items():
        if not (root / folder).is_dir():
            raise ValueError(
                f"{root / folder} is missing; the recipe needs {list(BUNDLED_SOURCES)}"
            )
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
    )
