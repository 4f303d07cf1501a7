"""Training samples of expressions: one sentence of an object, or several of one photograph.

Sample ``i`` depends on the seed and on ``i`` alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from lexiseg.data.augment import colour_jitter
from lexiseg.data.order import EpochOrder
from lexiseg.data.referring.references import FileReference, Outline, Reference, ReferringDataset
from lexiseg.data.referring.shapes import DrawnReference
from lexiseg.data.referring.wording import compares, mirrored
from lexiseg.images import Preprocess

STRIDE = 4  # pixels of the image for one of the masks

Enter = Callable[[UInt8[np.ndarray, "H W 3"]], Float[Tensor, "3 _ _"]]
EnterMask = Callable[[Bool[np.ndarray, "H W"]], Float[Tensor, "_ _"]]


@dataclass(frozen=True)
class ExpressionSample:
    """A photograph with some of the sentences that are true in it.

    Attributes:
        image: normalised.
        expressions: the sentences.
        masks: of each, from 0 to 1.
    """

    image: Float[Tensor, "3 H W"]
    expressions: tuple[str, ...]
    masks: Float[Tensor, "E h w"]


class OneSentence(Dataset[ExpressionSample]):
    """Every object once an epoch in a new order, each time by one of its sentences, as published.

    Args:
        dataset: objects with their sentences.
        enter: the way of a photograph into the model.
        enter_mask: the way of a mask.
        length: samples in all.
        seed: of the order and the choice of sentences.
    """

    def __init__(
        self,
        dataset: ReferringDataset,
        *,
        enter: Enter,
        enter_mask: EnterMask,
        length: int,
        seed: int,
    ) -> None:
        self.dataset = dataset
        self.enter = enter
        self.enter_mask = enter_mask
        self.length = length
        self.seed = seed
        self.object = EpochOrder(len(dataset), seed=seed, key=2)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ExpressionSample:
        """Sample ``index``, the same at every call."""
        sample = self.dataset[self.object(index)]
        chance = np.random.default_rng((self.seed, index))
        sentence = sample.expressions[int(chance.integers(len(sample.expressions)))]
        mask = self.enter_mask(sample.mask)
        return ExpressionSample(self.enter(sample.image), (sentence,), mask[None])


class ManySentences(Dataset[ExpressionSample]):
    """Photographs with several sentences each, so that an image is encoded once for all of them.

    The photographs of a batch have one size, upright or lying, to which they are stretched; half of
    them are mirrored, sentences and all, and the colours are changed a little. Half of them have
    something to compare. Masks lie on a grid ``STRIDE`` times coarser.

    Args:
        photographs: of each, its objects.
        preprocess: the normalisation; its resize does not take part.
        sides: shorter and longer side of the image.
        sentences: of each photograph; one that has fewer is asked some twice.
        batch_size: photographs of a step.
        length: samples in all.
        seed: of everything.
        jitter: strength of the change of colours.

    Raises:
        ValueError: there are no photographs.
    """

    def __init__(
        self,
        photographs: Sequence[Sequence[Reference]],
        *,
        preprocess: Preprocess,
        sides: tuple[int, int],
        sentences: int,
        batch_size: int,
        length: int,
        seed: int,
        jitter: float = 0.15,
    ) -> None:
        if not photographs:
            raise ValueError("no photographs came; there is nothing to learn from")
        self.preprocess = preprocess
        self.sides = sides
        self.sentences = sentences
        self.batch_size = batch_size
        self.length = length
        self.seed = seed
        self.jitter = jitter
        self.shapes: tuple[list[Sequence[Reference]], ...] = ([], [])
        for objects in photographs:
            height, width = _size(objects[0])
            self.shapes[int(height > width)].append(objects)
        comparisons = [np.array([_comparisons(each) for each in s]) for s in self.shapes]
        # Half of the photographs have something to compare, however few these are.
        of_compared = sum(int((c > 0).sum()) for c in comparisons)
        of_others = max(1, len(photographs) - of_compared)
        self.weights = [
            np.where(c > 0, 1 / max(1, of_compared), 1 / of_others) for c in comparisons
        ]
        self.upright = float(self.weights[1].sum() / sum(w.sum() for w in self.weights))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ExpressionSample:
        """Sample ``index``, the same at every call."""
        of_batch = np.random.default_rng((self.seed, index // self.batch_size, 3))
        upright = bool(of_batch.random() < self.upright)
        chance = np.random.default_rng((self.seed, index))
        photographs = self.shapes[int(upright)]
        weights = self.weights[int(upright)]
        objects = photographs[int(chance.choice(len(photographs), p=weights / weights.sum()))]
        chosen = self._choose(objects, chance)
        samples = {number: objects[number].read() for number in {n for n, _ in chosen}}
        image = next(iter(samples.values())).image
        flipped = bool(chance.random() < 0.5)
        size = (self.sides[1], self.sides[0]) if upright else self.sides
        masks = [_shrunk(samples[number].mask, size) for number, _ in chosen]
        sentences = [sentence for _, sentence in chosen]
        if flipped:
            image = image[:, ::-1]
            masks = [mask.flip(-1) for mask in masks]
            sentences = [mirrored(sentence) for sentence in sentences]
        pixels = np.asarray(Image.fromarray(image).resize((size[1], size[0])))
        pixels = colour_jitter(pixels, strength=self.jitter, generator=chance)
        tensor = self.preprocess.normalise(torch.from_numpy(pixels).permute(2, 0, 1).float())
        return ExpressionSample(tensor, tuple(sentences), torch.stack(masks))

    def _choose(
        self, objects: Sequence[Reference], chance: np.random.Generator
    ) -> list[tuple[int, str]]:
        """Sentences with the number of their object; all of them before one comes twice.

        One that compares an object with others comes three times as often as one that only names.
        """
        every = [(n, s) for n, each in enumerate(objects) for s in each.read_expressions()]
        weights = np.array([3.0 if compares(sentence) else 1.0 for _, sentence in every])
        picked: list[tuple[int, str]] = []
        while len(picked) < self.sentences:
            most = min(len(every), self.sentences - len(picked))
            drawn = chance.choice(len(every), most, replace=False, p=weights / weights.sum())
            picked += [every[i] for i in drawn]
        return picked


def by_photograph(dataset: ReferringDataset) -> list[list[Reference]]:
    """The objects of each photograph; one from a database stands alone."""
    groups: dict[Path | int, list[Reference]] = {}
    for reference in dataset.references:
        if isinstance(reference, FileReference):
            key: Path | int = reference.image
        else:
            key = id(reference.image if isinstance(reference, DrawnReference) else reference)
        groups.setdefault(key, []).append(reference)
    return list(groups.values())


def _comparisons(objects: Sequence[Reference]) -> int:
    """How many sentences compare an object with others."""
    return sum(compares(s) for each in objects for s in each.read_expressions())


def _size(reference: Reference) -> tuple[int, int]:
    """(height, width) of the photograph, which is opened only where nothing else tells."""
    if isinstance(reference, FileReference) and isinstance(reference.mask, Outline):
        declared = reference.mask.size
        if declared is not None:
            return declared
    height, width = reference.read().image.shape[:2]
    return height, width


def _shrunk(mask: Bool[np.ndarray, "H W"], size: tuple[int, int]) -> Float[Tensor, "h w"]:
    """The share of the mask in each cell of a grid of ``size`` / ``STRIDE``."""
    grid = (size[0] // STRIDE, size[1] // STRIDE)
    pixels = torch.from_numpy(mask.astype(np.float32))[None, None]
    return F.interpolate(pixels, size=grid, mode="area")[0, 0]
