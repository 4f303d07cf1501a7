"""A mixture without any files."""

import torch

from lexiseg.data.mixture import Mixture, TrainingSample


class Halves(Mixture):
    """Noise, labelled left and right."""

    names = ("grass", "sky")  # type: ignore[assignment]

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> TrainingSample:
        labels = torch.zeros(64, 64, dtype=torch.long)
        labels[:, 32:] = 1
        generator = torch.Generator().manual_seed(index)
        return TrainingSample(torch.randn(3, 64, 64, generator=generator), labels, self.names)

    def fingerprint(self) -> str:
        return "halves"
