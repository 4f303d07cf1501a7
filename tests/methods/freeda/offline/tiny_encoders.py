"""FreeDA's encoders with a few thousand random weights, the same at every run."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lexiseg.encoders.dinov2 import DINOv2, DINOv2Config
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.minilm import MiniLM, MiniLMConfig
from lexiseg.methods.freeda.bank import BankKind
from lexiseg.methods.freeda.offline.encoding import DinoClip, LiteBankEncoder
from tests.encoders.tiny_clip import tiny_clip

TINY_DINO = DINOv2Config(width=64, layers=2, image_size=56)


def tiny_pair() -> DinoClip:
    torch.manual_seed(0)
    return DinoClip(DINOv2(TINY_DINO), tiny_clip())


def tiny_lite() -> LiteBankEncoder:
    torch.manual_seed(0)
    return LiteBankEncoder(Lite(text=MiniLM(MiniLMConfig(layers=1))))


@dataclass(frozen=True)
class Colours:
    """An encoder whose features are the colours themselves, and whose keys are letters."""

    kind: BankKind = BankKind("letters", "colours", "mean")

    def image_features(self, image: np.ndarray) -> Tensor:
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255

    def keys(self, caption: str, words: list[str], kind: str) -> list[Tensor | None]:
        return [self.word_key(word) for word in words]

    def word_key(self, word: str) -> Tensor:
        counts = torch.tensor(
            [float(word.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"]
        )
        return counts / counts.norm()

    def identity(self) -> dict[str, str]:
        return {"colours": "1"}
