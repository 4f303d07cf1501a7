from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lexiseg import winners as module
from lexiseg.images import Preprocess
from lexiseg.methods.base import Protocol
from lexiseg.winners import winners

PREPROCESS = Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3)
SIZE = (4, 6)


@pytest.fixture(params=[1, 2 * 4 * 6, 10**9])
def view(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Five texts, at full size one, two or all of them at a time."""
    monkeypatch.setattr(module, "_CHUNK_NUMBERS", request.param)
    return torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))


def whole(view: Tensor, make: Callable[[Tensor], Tensor] = lambda scores: scores) -> np.ndarray:
    return make(PREPROCESS.restore(view, SIZE)).numpy()


@pytest.mark.parametrize("keep", [0, 3, 5])
def test_the_best_of_scores(view: Tensor, keep: int) -> None:
    best, winner, kept = winners(view, SIZE, Protocol(PREPROCESS), keep=keep)
    scores = whole(view)
    np.testing.assert_array_equal(winner, scores.argmax(axis=0))
    np.testing.assert_array_equal(best, scores.max(axis=0))
    if keep:
        np.testing.assert_array_equal(kept, scores[:keep])
    else:
        assert kept is None


def test_logits_become_scores_at_the_size_of_the_picture(view: Tensor) -> None:
    protocol = Protocol(PREPROCESS, logits_blended=True)
    best, winner, kept = winners(view, SIZE, protocol, keep=2)
    scores = whole(view, lambda logits: logits.softmax(dim=0))
    np.testing.assert_array_equal(winner, scores.argmax(axis=0))
    np.testing.assert_allclose(best, scores.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(kept, scores[:2], atol=1e-6)
