"""What a model saw on the way to its masks, drawn over the photograph."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from lexiseg.atomic import write_atomically
from lexiseg.outputs.formats import letters
from lexiseg.outputs.pictures import png_bytes
from lexiseg.palette import colours
from lexiseg.plot import draw_points, heat, overlay


@dataclass(frozen=True)
class ExplainedView:
    """One step of a model, for every label.

    Attributes:
        name: of the step, such as "block 1, correlation".
        maps: how well each label fits each place; only differences within a map mean something.
        points: of each label, x and y of chosen places as parts of the width and height, 0 to 1.
        masks: of each label, chosen regions, on a grid of their own.
        regions: names of the maps, where they are of parts of the picture and not of the labels.
    """

    name: str
    maps: Float[np.ndarray, "T _ _"]
    points: tuple[Float[np.ndarray, "_ 2"], ...] = ()
    masks: tuple[Bool[np.ndarray, "_ _ _"], ...] = ()
    regions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """All steps of a model on one photograph.

    Attributes:
        labels: what was looked for.
        views: the steps, the answer last.
        image: the photograph.
    """

    labels: tuple[str, ...]
    views: tuple[ExplainedView, ...]
    image: UInt8[np.ndarray, "H W 3"]

    def plot(self, view: int, label: str) -> Image.Image:
        """The map of one step and label, blue to red from its smallest to its largest value.

        Chosen regions are tinted, chosen places are dots.

        Args:
            view: number of the step.
            label: one of ``labels``, or of the step's ``regions`` where it has some.

        Raises:
            ValueError: the label was not looked for, or there is no such region.
        """
        step = self.views[view]
        names = step.regions or self.labels
        if label not in names:
            raise ValueError(f"unknown label {label!r}; there are {', '.join(names)}")
        index = names.index(label)
        size = (self.image.shape[0], self.image.shape[1])
        picture = heat(self.image, _resized(step.maps[index], size))
        if step.masks and len(step.masks[index]):
            regions = np.full(step.masks[index].shape[1:], 255, np.uint8)
            for number, mask in enumerate(step.masks[index]):
                regions[mask] = number
            large = Image.fromarray(regions).resize(size[::-1], Image.Resampling.NEAREST)
            picture = overlay(
                picture, np.array(large), colours(len(step.masks[index])), opacity=0.3
            )
        if step.points:
            picture = draw_points(picture, step.points[index] * np.array(size[::-1]))
        return Image.fromarray(picture)

    def save(self, folder: str | Path) -> list[Path]:
        """Write a picture for each label and step: 01_dog_01_block-1-correlation.png and so on.

        A file is either complete or not there.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for number, step in enumerate(self.views, start=1):
            for position, label in enumerate(step.regions or self.labels):
                parts = f"{position + 1:02d}", letters(label), f"{number:02d}", letters(step.name)
                name = f"{'_'.join(part for part in parts if part)}.png"
                write_atomically(folder / name, png_bytes(self.plot(number - 1, label)))
                written.append(folder / name)
        return written


def _resized(values: Float[np.ndarray, "_ _"], size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    small = Image.fromarray(values.astype(np.float32))
    return np.array(small.resize((size[1], size[0]), Image.Resampling.BILINEAR))
