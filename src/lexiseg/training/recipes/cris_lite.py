"""The run that made the bundled model for sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from lexiseg.data.fingerprints import joint
from lexiseg.data.referring import ReferringDataset, read_generated, read_referring_folder
from lexiseg.data.referring.training import ManySentences, by_photograph
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS, head_metadata, pack_head
from lexiseg.methods.cris import CRISLite
from lexiseg.registry import builder_of
from lexiseg.training.expressions import ExpressionObjective
from lexiseg.training.optim import parameter_groups
from lexiseg.training.run import Job, OptimConfig, Recipe, TrainConfig
from lexiseg.weights import load_state, read_weights, save_weights


@dataclass(frozen=True)
class LiteConfig(TrainConfig):
    """The run of the bundled model.

    Attributes:
        sentences: of each photograph of a batch; ``batch_size`` counts photographs.
        overlap: weight of the loss of objects beside that of pixels.
        contrastive: False trains a plain convolution in place of the sentence's kernel.
    """

    sentences: int = 4
    overlap: float = 0.5
    contrastive: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sentences < 1:
            raise ValueError(f"sentences {self.sentences} came; it must be at least 1")
        if not 0 <= self.overlap < float("inf"):
            raise ValueError(f"overlap {self.overlap} came; it must be 0 or more")


def cris_lite(data: Path, config: LiteConfig) -> Job:
    """CRIS's neck, decoder and projector on the bundled encoder, which stays as it is.

    ``lexiseg train cris_lite --data ../shared/data --out runs/cris_lite``

    Learns from expressions made from photographs with masks (``data/referring/generated.py``) and,
    where ``referring/`` holds some with a ``refs.json``, from those that people wrote.
    """
    datasets = [read_generated(data, "train")]
    if (data / "referring" / "refs.json").is_file():
        datasets.append(read_referring_folder(data / "referring", "train"))
    torch.manual_seed(config.seed)
    model = builder_of("cris_lite")(contrastive=config.contrastive)
    load_state(model.encoder, read_weights(LITE_WEIGHTS))
    return lite_job(model, datasets, config)


def lite_job(
    model: CRISLite,
    datasets: Sequence[ReferringDataset],
    config: LiteConfig,
    *,
    sides: tuple[int, int] = (224, 320),
) -> Job:
    """Training of all of the small model but its encoder.

    Args:
        model: its encoder has its weights.
        datasets: what is learned from.
        config: the run.
        sides: shorter and longer side of the images.
    """
    encoder = cast(Lite, model.encoder)
    encoder.requires_grad_(False)
    model.standardise(some_sentences(datasets, seed=config.seed))
    samples = ManySentences(
        [objects for dataset in datasets for objects in by_photograph(dataset)],
        preprocess=model.preprocess,
        sides=sides,
        sentences=config.sentences,
        batch_size=config.batch_size,
        length=config.steps * config.batch_size,
        seed=config.seed,
    )

    def save(path: Path) -> Path:
        save_weights(path, pack_head(model), head_metadata("cris_lite", encoder))
        return path

    return Job(
        objective=ExpressionObjective(model, overlap=config.overlap).train(),
        samples=samples,
        groups=parameter_groups(model, lr=config.optim.lr, weight_decay=config.optim.weight_decay),
        save=save,
        fingerprint=joint(dataset.fingerprint() for dataset in datasets),
    )


def some_sentences(
    datasets: Sequence[ReferringDataset], *, seed: int, at_most: int = 512
) -> list[str]:
    """Sentences of some data sets, none twice, in random order."""
    every = {s for each in datasets for r in each.references for s in r.read_expressions()}
    order = np.random.default_rng(seed).permutation(len(every))[:at_most]
    return [sorted(every)[index] for index in order]


CRIS_LITE = Recipe(
    name="cris_lite",
    summary="CRIS's neck, decoder and projector on the bundled encoder",
    config=LiteConfig(
        steps=2400,
        batch_size=4,
        average=0.98,
        checkpoint_every=100,
        optim=OptimConfig(lr=1e-3, weight_decay=0.01, clip_norm=1.0),
    ),
    build=cris_lite,
)
