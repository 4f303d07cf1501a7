"""The recordings of the authors' code, and the published model that is compared with them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lexiseg.methods.cris import CRIS, Letterbox, Sentences
from lexiseg.methods.cris.checkpoints import from_published
from lexiseg.registry import builder_of
from tests import parity
from tests.parity import SOURCES, Case, cases, fill, once

MANIFEST = "manifest_r50.json"

on_both_sources = pytest.mark.parametrize("source", SOURCES)


def recording(name: str, source: str) -> Case:
    return cases("cris", source).open(f"{name}.npz")


@once
def published_state() -> dict[str, Tensor]:
    """The official checkpoint with noise for running statistics, which only the full cases have."""
    state: dict[str, Tensor] = {}
    for name, row in cases("cris", "compact").json(MANIFEST).items():
        values = fill(name, tuple(row["shape"])) * np.float32(row.get("scale", 1))
        state[name] = torch.from_numpy(np.asarray(values, np.float32))
    return state


def stored_statistics() -> dict[str, Tensor]:
    with np.load(parity.FULL / "cris" / "bn_r50.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def build(state: dict[str, Tensor], **changes: Any) -> CRIS:
    """A published model that shares a state's parameters and copies its statistics."""
    with torch.device("meta"):
        model = builder_of("cris_r50")(word_length=17, hide_id_zero=True, **changes)
    ours = from_published(state)
    names = {name for name, _ in model.named_parameters()}
    copied = {key: value if key in names else value.clone() for key, value in ours.items()}
    model.load_state_dict(copied, assign=True)
    return model


@once
def published_model(*, statistics: bool) -> CRIS:
    """In evaluation mode; without ``statistics``, which lie in the full cases, for texts alone."""
    state = dict(published_state())
    if statistics:
        state |= stored_statistics()
    return build(state).eval()


def letterbox(side: int = 416) -> Letterbox:
    with torch.device("meta"):
        preprocess = builder_of("cris_r50")().protocols["published"].preprocess
    assert preprocess == Letterbox(mean=preprocess.mean, std=preprocess.std, side=416)
    return Letterbox(mean=preprocess.mean, std=preprocess.std, side=side)


def normalised(pictures: np.ndarray) -> Tensor:
    """B x H x W x 3 bytes, as the model wants them."""
    preprocess = letterbox()
    pixels = torch.from_numpy(np.array(pictures)).movedim(-1, 1).float()
    return torch.stack([preprocess.normalise(each) for each in pixels])


def pair_logits(model: CRIS, images: Tensor, texts: Sentences) -> Tensor:
    """Logits of each image for the sentence of its row alone, as in training."""
    return model.pairs(model.look(images), texts.states, texts.words, texts.is_word)


def unpacked(bits: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A mask of (height, width) that numpy.packbits packed."""
    return np.unpackbits(bits, count=size[0] * size[1]).reshape(size).astype(bool)


def caught(parts: dict[str, nn.Module], outputs: dict[str, Tensor]) -> list[Any]:
    """Handles of hooks that keep what the parts give."""

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
            outputs[name] = output.detach()

        return hook

    return [part.register_forward_hook(keep(name)) for name, part in parts.items()]
