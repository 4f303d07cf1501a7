"""CAT-Seg's published evaluation against recordings, from the photograph to the winners."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from lexiseg.tiling import activate, sliding_scores
from tests.methods.catseg.recordings import (
    LOGITS,
    SCORES,
    check_stats,
    inputs_of,
    on_both_sources,
    once,
    prompts_of,
    published_model,
    recording,
)


@dataclass
class ProtocolRun:
    """What a protocol gave on a photograph, from the resized pixels to the scores."""

    resized: Tensor
    clip_input: Tensor
    logits: Tensor
    scores: Tensor


@once
def run_protocol(name: str, raw: bool) -> ProtocolRun:
    """A photograph under the published protocol; ``raw`` leaves out the first resize."""
    image, model = inputs_of(name)["image"], published_model()
    protocol = model.protocols["published_whole" if name == "whole_rocket" else "published"]
    preprocess = protocol.preprocess
    if raw:
        preprocess = replace(preprocess, shorter=None, longest=None)
    only_resize = replace(preprocess, mean=(0.0,) * 3, std=(1.0,) * 3, pad_multiple=1, squash=None)
    views, logits = [], []

    def run(some: Tensor) -> Tensor:
        views.append(some)
        logits.append(model(some, texts))
        return logits[-1]

    images = preprocess(image)[None]
    with torch.no_grad():
        texts = model.encode_texts(prompts_of(inputs_of(name)))
        if protocol.tiling is None:
            scores = activate(run(images), model.activation)
        else:
            scores = sliding_scores(
                run, images, protocol.tiling, activation=model.activation, crop_batch=2
            )
    return ProtocolRun(
        resized=only_resize(image),
        clip_input=torch.cat(views),
        logits=torch.cat(logits),
        scores=preprocess.restore(scores[0], (image.shape[0], image.shape[1])),
    )


on_both_protocols = pytest.mark.parametrize("name", ["sliding_rocket", "whole_rocket"])


@on_both_sources
@on_both_protocols
def test_catseg_parity_protocol_resize(name: str, source: str) -> None:
    case, resized = recording(name, source), run_protocol(name, False).resized
    assert list(resized.shape[-2:]) == case["resized_shape"].tolist()
    case.check("resized_s8", rearrange(resized, "c h w -> h w c")[::8, ::8], absolute=0)


@on_both_sources
@on_both_protocols
def test_catseg_parity_protocol_views(name: str, source: str) -> None:
    case, whole = recording(name, source), run_protocol(name, False).clip_input
    case.check("clip_input_s32", whole[:, :, ::32, ::32])
    check_stats(case, "clip_input__stats", whole, 2e-5)


@on_both_sources
@on_both_protocols
def test_catseg_parity_protocol_logits(name: str, source: str) -> None:
    case, whole = recording(name, source), run_protocol(name, False).logits
    case.check("logits_s4", whole[:, :, ::4, ::4], absolute=LOGITS)
    check_stats(case, "logits__stats", whole, LOGITS)


@on_both_sources
@pytest.mark.parametrize(
    ("name", "raw"), [("sliding_rocket", False), ("whole_rocket", False), ("whole_rocket", True)]
)
def test_catseg_parity_protocol_scores(name: str, source: str, raw: bool) -> None:
    case, scores = recording(name, source), run_protocol(name, raw).scores
    prefix = "raw_" if raw else ""
    case.check(f"{prefix}prob_s4", scores[:, ::4, ::4], absolute=SCORES)
    case.check(f"{prefix}prob_last_row", scores[:, -1, ::4], absolute=SCORES)
    case.check(f"{prefix}prob_last_col", scores[:, ::4, -1], absolute=SCORES)
    check_stats(case, f"{prefix}prob__stats", scores, SCORES)


@on_both_sources
@pytest.mark.parametrize(
    ("name", "raw"), [("sliding_rocket", False), ("whole_rocket", False), ("whole_rocket", True)]
)
def test_catseg_parity_protocol_argmax(name: str, source: str, raw: bool) -> None:
    """The winner is the recorded one wherever it is ahead by more than the tolerance."""
    case, scores = recording(name, source), run_protocol(name, raw).scores
    best = scores.topk(2, dim=0)
    margin = (best.values[0] - best.values[1]).numpy()
    key = "raw_argmax" if raw else "argmax"
    clear = case.thin(key, margin) > 2 * SCORES
    assert clear.mean() > 0.9
    assert np.array_equal(case.thin(key, best.indices[0].numpy())[clear], case[key][clear])
    if not raw:
        case.check("margin_s4", margin[::4, ::4], absolute=2 * SCORES)
