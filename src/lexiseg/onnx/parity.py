"""What the graphs compute beside what the model computes."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image as PILImage

from lexiseg.methods.base import SegmentationModel
from lexiseg.onnx.segmenter import OnnxSegmenter

CHECKED_LABELS = (("road", "sky"), ("dog", "cat", "grass", "wall", "bright blue sky", "person"))
CHECKED_SIZES = ((240, 320), (300, 200))


def compare(
    model: SegmentationModel,
    exported: OnnxSegmenter,
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    label_sets: Sequence[Sequence[str]],
) -> dict[str, float]:
    """The graphs beside the model, each picture with each set of labels.

    Returns:
        ``logits``, the largest difference of a logit, and ``agreement``, the part of the cells of
        the model's grid whose best label is the same.
    """
    largest, same, count = 0.0, 0, 0
    for labels in label_sets:
        prompts = [[each.replace("{}", label) for each in model.templates] for label in labels]
        found = exported.encode_texts(prompts)
        with torch.inference_mode():
            texts = model.encode_texts(prompts)
            for picture in pictures:
                prepared = model.preprocess(picture)
                expected = model(prepared[None], texts)[0].numpy()
                logits = exported.logits(prepared.numpy(), found)
                largest = max(largest, float(np.abs(logits - expected).max()))
                same += int((logits.argmax(axis=0) == expected.argmax(axis=0)).sum())
                count += expected[0].size
    return {"logits": largest, "agreement": same / count}


def made_up_pictures(
    sizes: Sequence[tuple[int, int]] = CHECKED_SIZES, seed: int = 0
) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Pictures of soft colours, (height, width) each, the same at every call."""
    chance = np.random.default_rng(seed)
    coarse = [chance.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in sizes]
    return [
        np.asarray(PILImage.fromarray(colours).resize((width, height), PILImage.Resampling.BICUBIC))
        for colours, (height, width) in zip(coarse, sizes, strict=True)
    ]
