"""Photographs with a square, and a pickle that would run a command."""

import os

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 6, 8
SQUARE = [1, 2, 4, 2, 4, 5, 1, 5]  # three by three pixels


def square_mask():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2:5, 1:4] = True
    return mask


def photograph(path, size=(HEIGHT, WIDTH)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (9, 8, 7)).save(path)


class Command:
    """Pickles into a call that leaves a canary."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch '{self.canary}'",)
