"""Images painted by a rule in the place of a diffusion model, so that every number is known."""

import numpy as np
import torch

from lexiseg.methods.freeda.offline.collection import Collector
from lexiseg.methods.freeda.offline.diffusion import Generated
from lexiseg.methods.freeda.offline.nouns import Nouns
from lexiseg.methods.freeda.offline.recipe import Recipe
from tests.methods.freeda.offline.tiny_encoders import Colours

TOKENS = ("a</w>", "red</w>", "dog</w>", "and</w>", "cats</w>")


class Painted:
    """In the place of the diffusion model: the dog's pixels are red, those of the cats blue."""

    name = "painted"

    def __init__(self, flagged: bool = False, broken: bool = False, blank: bool = False) -> None:
        self.flagged, self.broken, self.blank = flagged, broken, blank

    def generate(self, caption: str, seed: int) -> Generated:
        assert not self.broken
        image = np.zeros((32, 32, 3), np.uint8)
        image[:, :16, 0] = image[:, 16:, 2] = 255
        maps = torch.zeros(len(TOKENS) + 2, 8, 8)
        maps[3, :, :4] = maps[5, :, 4:] = 0.0 if self.blank else 1.0
        return Generated(image, maps, TOKENS, self.flagged)

    def word_tokens(self, word: str) -> list[str]:
        return [f"{part}</w>" for part in word.split()]

    def identity(self) -> dict[str, str]:
        return {"painted": "1"}


def collector(**changes) -> Collector:
    parts = {
        "diffusion": Painted(),
        "encoder": Colours(),
        "nouns": Nouns(["dog", "cat", "bird"]),
        **changes,
    }
    return Collector(**parts)


class PaintedRecipe(Recipe):
    """What other processes load."""

    def load(self) -> Collector:
        return collector()
