"""The runs that made the heads bundled on the ``lite`` encoder, all by one protocol."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from lexiseg.encoders.lite import Lite
from lexiseg.encoders.lite_checkpoints import head_metadata, pack_head, pack_model, read_encoder
from lexiseg.registry import builder_of
from lexiseg.training.head_objective import FewNames, HeadObjective
from lexiseg.training.lite_objective import patches_of
from lexiseg.training.optim import parameter_groups
from lexiseg.training.recipes.lite_data import (
    FINE_SHARES,
    HEAD_CROPS,
    WHOLE,
    LiteTrainConfig,
    lite_samples,
)
from lexiseg.training.recipes.lite_start import STARTS
from lexiseg.training.run import Job, OptimConfig, Recipe
from lexiseg.weights import load_state, save_weights

LAST_LAYER = "decoder.head."


@dataclass(frozen=True)
class HeadTrainConfig(LiteTrainConfig):
    """A run of a head on an encoder that stays as it is.

    Attributes:
        encoder: "" for the bundled one, "lite_weak" for its twin that never saw a mask, or a file
            of weights; what differs from the bundled one is then stored with the head.
        part: by which the head's last layer is multiplied where it is stored. The head adds to the
            raw cost, with which training began; half of what it learned lies between both, as
            weights do that are averaged with those before a training (WiSE-FT: Wortsman et al.,
            CVPR 2022, equation 1).
        whole: learn from whole pictures at the size at which they are segmented; False takes
            squares of 256 pixels out of pictures of 320 to 768.
    """

    encoder: str = ""
    part: float = 0.5
    whole: bool = True


@dataclass(frozen=True)
class ESCNetTrainConfig(HeadTrainConfig):
    """A run of ESC-Net's head; other values than the defaults are for its ablation.

    Attributes:
        blocks: ESC-blocks.
        class_fusion: see :class:`~lexiseg.methods.escnet.model.ESCNetConfig`.
        prompts: False trains with no pseudo prompt ever valid.
        boundary_refinement: see :class:`~lexiseg.methods.escnet.model.ESCNetConfig`.
    """

    blocks: int = 2
    class_fusion: str = "mean"
    prompts: bool = True
    boundary_refinement: bool = False

    @property
    def changes(self) -> dict[str, Any]:
        """What ``escnet_lite`` is built with."""
        return {
            "blocks": self.blocks,
            "class_fusion": self.class_fusion,
            "boundary_refinement": self.boundary_refinement,
            **({} if self.prompts else {"ratio": math.inf}),
        }


def catseg_lite(data: Path, config: HeadTrainConfig) -> Job:
    """CAT-Seg's head on the bundled encoder.

    ``lexiseg train catseg_lite --data ../shared/data --out runs/catseg_lite``
    """
    return head_on_lite("catseg_lite", data, config)


def escnet_lite(data: Path, config: ESCNetTrainConfig) -> Job:
    """ESC-Net's head on the bundled encoder.

    ``lexiseg train escnet_lite --data ../shared/data --out runs/escnet_lite``

    Ablations: ``--set blocks=4``, ``--set class_fusion=none``, ``--set prompts=false``,
    ``--set boundary_refinement=true`` (``benchmarks/escnet_ablation.py`` scores them).
    """
    return head_on_lite("escnet_lite", data, config, **config.changes)


def head_on_lite(name: str, data: Path, config: HeadTrainConfig, **changes: Any) -> Job:
    """Training of all of a model, built with ``changes``, but its encoder."""
    torch.manual_seed(config.seed)
    model = builder_of(name)(**changes)
    encoder = cast(Lite, model.encoder)
    bundled = STARTS.get(config.encoder or "lite")
    load_state(encoder, read_encoder(bundled or config.encoder))
    encoder.requires_grad_(False)
    varied = WHOLE if config.whole else HEAD_CROPS
    samples = lite_samples(data, config, varied=varied, shares=FINE_SHARES)
    objective = HeadObjective(
        model,
        lambda images: patches_of(encoder, images),
        samples.names,
    ).train()
    encoder.eval()

    def save(path: Path) -> Path:
        state = pack_model(model, encoder) if bundled is None else pack_head(model)
        last = {key: state[key] * config.part for key in state if LAST_LAYER in key}
        save_weights(path, {**state, **last}, head_metadata(name, encoder))
        return path

    return Job(
        objective=objective,
        samples=FewNames(samples, seed=config.seed),
        groups=parameter_groups(
            objective, lr=config.optim.lr, weight_decay=config.optim.weight_decay
        ),
        save=save,
        fingerprint=samples.fingerprint(),
    )


CATSEG_LITE = Recipe(
    name="catseg_lite",
    summary="CAT-Seg's head on the bundled encoder",
    config=HeadTrainConfig(
        steps=320, batch_size=8, average=0.99, optim=OptimConfig(lr=5e-4, clip_norm=1.0)
    ),
    build=catseg_lite,
)
ESCNET_LITE = Recipe(
    name="escnet_lite",
    summary="ESC-Net's head on the bundled encoder",
    config=ESCNetTrainConfig(**{**vars(CATSEG_LITE.config), "steps": 200}),
    build=escnet_lite,
)
