"""Training samples drawn from several data sets, each scored against its own names.

Sample ``i`` depends on the seed and on ``i`` alone, so a run gives the same samples whatever the
number of workers, and goes on where it stopped.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Dataset

from lexiseg.data import augment
from lexiseg.data.mixture.cutouts import Cutouts
from lexiseg.data.mixture.samples import Taught, TrainingSample, ids_on, positions, some_ids
from lexiseg.data.mixture.sources import Source
from lexiseg.images import Preprocess


@runtime_checkable
class Teacher(Protocol):
    """Labels any photograph, and ignores the pixels of which it is not sure."""

    names: tuple[str, ...]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Ids that index ``names``; 255, or 65535 in 16 bits, where it is not sure."""
        ...


@dataclass(frozen=True)
class MixtureConfig:
    """How samples are drawn and changed.

    Attributes:
        crop: side of the square samples, in pixels; None takes the whole picture, its sides
            multiples of those that the model's preparation asks for.
        longest: range of the picture's longer side before cropping, in pixels.
        stretch: largest change of the aspect ratio.
        jitter: strength of the colour changes.
        paste_probability: share of the samples with masks that get a cutout.
        synonym_probability: how often a name that has synonyms is called by one of them.
        taught_names: names at most of what a teacher sees, unless it sees more.
    """

    crop: int | None = 256
    longest: tuple[int, int] = (256, 640)
    stretch: float = 1.3
    jitter: float = 0.3
    paste_probability: float = 0.25
    synonym_probability: float = 0.0
    taught_names: int = 64


class Mixture(Dataset[TrainingSample]):
    """``length`` samples from several sources, drawn in proportion to their weights.

    Args:
        sources: data sets, each with its weight.
        preprocess: how pixels reach the model.
        config: how samples are drawn and changed.
        length: number of samples.
        seed: of all chance.
        cutouts: objects for pasting.
        teachers: what label each photograph besides.
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
        teachers: Sequence[Teacher] = (),
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
        self.teachers = tuple(teachers)
        self.synonyms = dict(synonyms or {})

    @property
    def names(self) -> list[str]:
        """Every name that a sample can be scored against."""
        cutouts = self.cutouts.names if self.cutouts else ()
        taught = {name for teacher in self.teachers for name in teacher.names}
        names = {*cutouts, *taught, *(name for s in self.sources for name in s.class_names)}
        return sorted(names.union(*(self.synonyms.get(name, ()) for name in names)))

    def fingerprint(self) -> str:
        """A digest of all photographs, what is known of them, and the names."""
        parts = [source.fingerprint() for source in self.sources]
        if self.cutouts:
            parts += self.cutouts.fingerprint()
        return hashlib.sha256(repr((parts, self.names)).encode()).hexdigest()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TrainingSample:
        """Sample ``index``, the same at every call."""
        generator = np.random.default_rng((self.seed, index))
        source = self.sources[generator.choice(len(self.sources), p=self.shares)]
        drawn = source.draw(generator)
        image, names, config = drawn.image, drawn.class_names, self.config
        label_maps = (drawn.label_map, *(teacher(image) for teacher in self.teachers))
        if len({each.dtype for each in label_maps}) > 1:  # one id for "ignored" in all of them
            label_maps = tuple(map(augment.widen, label_maps))
        paste = generator.random() < config.paste_probability
        if self.cutouts and paste and names and drawn.image_label is None:
            image, label_maps, names = self.cutouts.paste(
                image, label_maps, names, generator, synonyms=self.synonyms
            )
        longest = config.longest
        if config.crop and drawn.image_label is not None:  # the object has to stay in the picture
            longest = (config.crop * 3 // 4, config.crop * 5 // 4)
        image, label_maps = augment.varied_crop(
            image,
            label_maps,
            size=config.crop,
            longest=longest,
            stretch=config.stretch,
            jitter=config.jitter,
            multiple=self.preprocess.multiple,
            generator=generator,
        )
        pixels = torch.from_numpy(image).permute(2, 0, 1).float()
        words = np.random.default_rng((self.seed, index, 2))  # not the chance of the pixels
        called = self._called(names, words)
        return TrainingSample(
            image=self.preprocess.normalise(pixels),
            label_map=torch.from_numpy(label_maps[0]).long(),
            class_names=called,
            image_label=drawn.image_label,
            ignore_index=augment.ignored_id(label_maps[0]),
            taught=tuple(
                self._taught(teacher.names, label_map, words)
                for teacher, label_map in zip(self.teachers, label_maps[1:], strict=True)
            ),
        )

    def _taught(
        self, names: Sequence[str], label_map: np.ndarray, generator: np.random.Generator
    ) -> Taught:
        """What a teacher sees on the crop, against the names it sees and some that it does not."""
        ids = torch.from_numpy(label_map).long()
        ignored = augment.ignored_id(label_map)
        if len(names) > self.config.taught_names:
            shown, most = ids_on(ids, ignored), self.config.taught_names
            kept = some_ids(shown, len(names), most, generator)
            ids, names = positions(ids, kept, ignored), [names[i] for i in kept]
        return Taught(ids, self._called(names, generator))

    def _called(self, names: Sequence[str], generator: np.random.Generator) -> tuple[str, ...]:
        """The names, some of them by a synonym that is not among them."""
        called = list(names)
        for place, name in enumerate(names):
            others = [other for other in self.synonyms.get(name, ()) if other not in called]
            if others and generator.random() < self.config.synonym_probability:
                called[place] = others[int(generator.integers(len(others)))]
        return tuple(called)
