"""A model small enough to be worked by hand, and pictures for it."""

import json
from collections.abc import Iterator, Sequence
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import settings
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

import lexiseg.methods
from lexiseg import registry
from lexiseg.cache import CACHE_VARIABLE
from lexiseg.images import Preprocess
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts, Tiling
from lexiseg.weights import Weights, save_weights

settings.register_profile("same every time", derandomize=True, deadline=None)
settings.load_profile("same every time")

RGB = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "lime": (0, 1, 0)}


class Painter(SegmentationModel):
    """Finds colours by their names; a text's feature is the mean colour of its prompts."""

    activation: ClassVar[Activation] = "softmax"
    templates = ("{}",)

    def __init__(self) -> None:
        super().__init__()
        preprocess = Preprocess(mean=(0.0,) * 3, std=(255.0,) * 3, longest=64)
        self.protocols = {
            "default": Protocol(preprocess),
            "windows": Protocol(preprocess, Tiling(window=16, stride=8)),
        }
        self.gain = nn.Parameter(torch.tensor(10.0))
        self.encoded: list[list[list[str]]] = []

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Texts:
        self.encoded.append([list(each) for each in prompts])
        rows = [torch.tensor([_colour(p) for p in each]).mean(dim=0) for each in prompts]
        return Texts(torch.stack(rows))

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B T h w"]:
        return self.gain * torch.einsum("bchw,tc->bthw", images, texts.features)


class Judge(Painter):
    """The same, but each text is judged alone."""

    activation: ClassVar[Activation] = "sigmoid"
    exclusive: ClassVar[bool] = False
    threshold: ClassVar[float] = 0.9


def _colour(name: str) -> list[float]:
    if name in RGB:
        return [float(c) for c in RGB[name]]
    chance = np.random.default_rng(list(name.encode()))
    return (chance.random(3) / 2).tolist()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests compute out of the user's cache folder, and his out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def _forget_models(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let go of what a module kept for its tests, such as a model of its published size."""
    yield
    for kept in vars(request.module).values():
        own = getattr(kept, "__module__", None) == request.module.__name__
        if own and isinstance(kept, _lru_cache_wrapper):
            kept.cache_clear()


@pytest.fixture
def painter() -> Painter:
    return Painter()


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def registered_painter(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The painter under a name that the command line finds, as if its weights were bundled."""
    asset = tmp_path_factory.mktemp("assets") / "painter.safetensors"
    save_weights(asset, {"gain": torch.tensor(10.0)})
    record = Weights(
        url=None,
        sha256=None,
        licence="MIT",
        origin="https://example.org",
        paper="none",
        scores={"x": 1.0},
        asset=str(asset),
    )
    monkeypatch.setitem(registry._BUILDERS, "painter", Painter)
    monkeypatch.setattr(lexiseg.methods, "WEIGHTS", {"painter.tests": record})
    return "painter"


@pytest.fixture
def flag() -> np.ndarray:
    """A picture of 20 x 30: the left third red, the middle green, the right blue."""
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    for index in range(3):
        image[:, 10 * index : 10 * (index + 1), index] = 255
    return image


def write_flags(root: Path, flag: np.ndarray, columns: list[int]) -> Path:
    """A data set of the flag alone, whose mask has these classes from left to right."""
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
    Image.fromarray(flag).save(root / "val" / "images" / "flag.png")
    mask = np.repeat([columns], 10, axis=-1).repeat(20, axis=0).astype(np.uint8)
    Image.fromarray(mask).save(root / "val" / "masks" / "flag.png")
    classes = {"classes": {"0": "red", "1": "green", "2": "blue"}}
    (root / "classes.json").write_text(json.dumps(classes))
    return root


def stored(array: np.ndarray, orientation: int) -> np.ndarray:
    """What lies in the file, so that EXIF's orientation gives ``array`` again (EXIF 2.3, 4.6.4)."""
    turned = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.swapaxes(0, 1),
        6: array.swapaxes(0, 1)[::-1],
        7: array[::-1, ::-1].swapaxes(0, 1),
        8: array.swapaxes(0, 1)[:, ::-1],
    }
    return np.ascontiguousarray(turned[orientation])


@pytest.fixture
def flag_file(flag: np.ndarray, tmp_path: Path) -> Path:
    path = tmp_path / "flag.png"
    Image.fromarray(flag).save(path)
    return path
