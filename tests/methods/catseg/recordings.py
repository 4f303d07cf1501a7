"""The recordings of the authors' code, and the published model that is compared with them.

A recorded image is run once, however many tests look at what came of it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lexiseg.methods.catseg import CATSeg
from lexiseg.methods.catseg.checkpoints import from_published
from lexiseg.registry import builder_of
from tests.parity import SOURCES, Case, cases, once

LOGITS, SCORES = 5e-5, 5e-6

on_both_sources = pytest.mark.parametrize("source", SOURCES)


@once
def published_model() -> CATSeg:
    with torch.device("meta"):
        model = builder_of("catseg_vitb16")()
    state = from_published(cases("catseg", "compact").weights("manifest_vitb384.json"))
    model.load_state_dict(state, assign=True)
    model.class_chunk = None
    return model.eval()


@once
def opened(name: str, source: str) -> Case:
    return cases("catseg", source).open(f"vitb384_{name}.npz")


def recording(name: str, source: str) -> Case:
    """A recording; the same inputs are asked of both sources, so that one run serves both."""
    case = opened(name, source)
    for key in {"image", "images", "labels", "class_names"} & case.keys():
        assert np.array_equal(case[key], inputs_of(name)[key])
    return case


def inputs_of(name: str) -> Mapping[str, np.ndarray]:
    """The compact recording's inputs; two recordings share one photograph."""
    case = opened(name, "compact")
    return case if name != "whole_rocket" else {**opened("sliding_rocket", "compact"), **case}


def prompts_of(case: Mapping[str, np.ndarray]) -> list[list[str]]:
    """The published rule: the first synonym, in one template."""
    (template,) = published_model().templates
    return [[template.format(str(name).split(", ")[0])] for name in case["class_names"]]


def with_stats(case: Case, key: str, whole: Tensor, part: Callable[[Tensor], Tensor]) -> None:
    """A recorded part of an array, and mean, rms, least and largest of the whole."""
    case.check(key, part(whole))
    check_stats(case, f"{key}__stats", whole, 2e-5 * np.abs(case[f"{key}__stats"]).max())


def check_stats(case: Case, key: str, whole: Tensor, absolute: float) -> None:
    wide = whole.double()
    stats = torch.stack([wide.mean(), wide.square().mean().sqrt(), wide.min(), wide.max()])
    np.testing.assert_allclose(stats.numpy(), case[key], atol=absolute, rtol=0)


@contextmanager
def caught(parts: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """What the parts give while the context is open, several calls one after the other."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
            before = [outputs[name]] if name in outputs else []
            outputs[name] = torch.cat([*before, output.detach()])

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in parts.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
