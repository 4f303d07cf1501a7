"""What a model is trained on: one augmented picture and what is known of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lexiseg.data.semantic import IGNORE_INDEX


@dataclass(frozen=True)
class Taught:
    """What a teacher sees on a picture.

    Attributes:
        label_map: ids that index ``class_names``; the sample's ``ignore_index`` where the teacher
            is not sure.
        class_names: those that it sees, and others that it knows.
    """

    label_map: Int[Tensor, "h w"]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class TrainingSample:
    """One augmented picture and what is known of it.

    Attributes:
        image: normalised pixels; some models want them at another size than the label map's.
        label_map: class ids that index ``class_names``; ``ignore_index`` where nobody judged.
        class_names: the names this picture is scored against.
        image_label: id of the one name that describes the whole picture; None where there is none.
        ignore_index: 255, or 65535 where the label map had 16 bits.
        taught: what each teacher sees.
    """

    image: Float[Tensor, "3 H W"]
    label_map: Int[Tensor, "h w"]
    class_names: tuple[str, ...]
    image_label: int | None = None
    ignore_index: int = IGNORE_INDEX
    taught: tuple[Taught, ...] = ()

    def shown(self) -> list[int]:
        """Ids of the names that the picture shows, as far as is known."""
        whole = [] if self.image_label is None else [self.image_label]
        return sorted({*ids_on(self.label_map, self.ignore_index), *whole})

    def against(self, kept: Sequence[int]) -> "TrainingSample":
        """The same picture, scored against some of its names, in the order given.

        Args:
            kept: ids of the names; all that are shown are among them.
        """
        return replace(
            self,
            label_map=positions(self.label_map, kept, self.ignore_index),
            class_names=tuple(self.class_names[i] for i in kept),
            image_label=None if self.image_label is None else list(kept).index(self.image_label),
        )


def ids_on(label_map: Int[Tensor, "h w"], ignore_index: int) -> list[int]:
    """The ids on a map, sorted, but for the one that says "ignored"."""
    return [i for i in label_map.unique().tolist() if i != ignore_index]


def positions(
    label_map: Int[Tensor, "h w"], kept: Sequence[int], ignore_index: int
) -> Int[Tensor, "h w"]:
    """The map with each id as its position in ``kept``; others are ignored."""
    table = torch.full((ignore_index + 1,), ignore_index)
    table[torch.tensor(list(kept), dtype=torch.long)] = torch.arange(len(kept))
    return table[label_map]


def some_ids(
    shown: Sequence[int], count: int, at_most: int, generator: np.random.Generator
) -> list[int]:
    """Those shown, then random others of ``count``, ``at_most`` where it can be."""
    order = dict.fromkeys([*shown, *generator.permutation(count).tolist()])
    return list(order)[: max(at_most, len(shown))]
