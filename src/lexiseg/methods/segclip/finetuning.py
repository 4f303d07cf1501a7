"""Which parameters learn how fast, as published: facts that a recipe needs.

Names are those of an objective: "model." is a SegCLIP, "reconstruction." what only training has.
"""

import math
import re

RATE = 4e-3
SLOW_FACTOR = 1e-3  # of what CLIP brings
WEIGHT_DECAY = 0.05
BETAS = (0.9, 0.98)
EPSILON = 1e-6
CLIP_NORM = 1.0
WARMUP = 0.15
LARGEST_LOG_SCALE = math.log(100)

_FROZEN = (
    *("visual.patch_embedding.", "visual.class_embedding", "visual.position_embedding"),
    *("visual.norm_pre.", "text.token_embedding.", "text.position_embedding"),
)
_SLOW = ("visual.blocks.", "text.", "logit_scale")


def is_frozen(name: str) -> bool:
    """Whether a parameter stays as CLIP brought it."""
    return name.removeprefix("model.encoder.").startswith(_FROZEN)


def learns_slowly(name: str, place: int) -> bool:
    """Whether a parameter is CLIP's own: the blocks before the group module, and the texts' side.

    Args:
        name: of the parameter.
        place: number of blocks before the group module.
    """
    own = name.removeprefix("model.encoder.")
    block = re.match(r"visual\.blocks\.(\d+)\.", own)
    if block:
        return int(block[1]) < place
    return own.startswith(_SLOW)


def is_decayed(name: str) -> bool:
    """Whether the published decay concerns a parameter: all but biases, norms' weights too."""
    return "bias" not in name


def rate_factor(step: int, steps: int) -> float:
    """Factor of the learning rate at a step, from 0: a straight rise, then half a cosine."""
    done = (step + 1) / steps
    if done < WARMUP:
        return done / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))
