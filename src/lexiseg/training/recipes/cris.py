"""CRIS: the published runs."""

import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from lexiseg.data.fingerprints import joint
from lexiseg.data.referring import ReferringDataset, read_refer
from lexiseg.data.referring.references import FileReference, Reference
from lexiseg.data.referring.training import OneSentence
from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.evaluation.evaluate import evaluate
from lexiseg.methods.cris import CRIS
from lexiseg.methods.cris.finetuning import (
    BASE_RATE,
    ENCODER_MULTIPLIER,
    EPOCHS,
    MILESTONE,
    learns_slowly,
)
from lexiseg.methods.cris.letterbox import Letterbox
from lexiseg.registry import builder_of
from lexiseg.segmenter import Segmenter
from lexiseg.training.expressions import ExpressionObjective
from lexiseg.training.optim import schedule_of
from lexiseg.training.run import Job, OptimConfig, Recipe, Schedule, TrainConfig, save_whole
from lexiseg.weights import load_state, read_weights

CLIPS = {"cris_r50": "clip_rn50", "cris_r101": "clip_rn101"}
BATCH = 64
# Of each benchmark: references to learn from, tokens of a sentence, the split that chooses.
PUBLISHED = {
    "refcoco": (42404, 17, "val"),
    "refcoco+": (42278, 17, "testB"),
    "refcocog_umd": (42226, 22, "val"),
}


@dataclass(frozen=True)
class PublishedConfig(TrainConfig):
    """The run of the authors, theirs in every default but one.

    They train in mixed precision, which a CPU cannot: ``--set precision=float16`` on a GPU.

    Attributes:
        clip: file of OpenAI's weights to start from; "" downloads them.
        dropout: in the decoder.
        encoder_norms: "trained", or "frozen" where the parts of a batch are small.
    """

    steps: int = round(EPOCHS * PUBLISHED["refcoco"][0] / BATCH)
    batch_size: int = BATCH
    accumulate: int = 4
    average: float = 0.0
    checkpoint_every: int = 0
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=BASE_RATE,
            backbone_factor=ENCODER_MULTIPLIER,
            weight_decay=0.0,
            clip_norm=0.0,
            schedule="multi-step",
            warmup=0.0,
            milestones=(MILESTONE / EPOCHS,),
        )
    )
    clip: str = ""
    dropout: float = 0.1
    encoder_norms: str = "trained"


def cris_published(arch: str, dataset: str, data: Path, config: PublishedConfig) -> Job:
    """CRIS from OpenAI's CLIP on a referring benchmark, as published.

    ``lexiseg train cris_r50.refcoco --data ROOT --out runs/cris --set clip=RN50.pt``

    ROOT holds the REFER files as ``lexiseg data check refcoco ROOT`` asks for them. A batch of 64
    is taken in 4 parts; on N cards, ``torchrun --nproc_per_node N`` with ``--set accumulate=1``.
    Batch norms see a part at a time, or all cards' parts together. The best epoch by mean IoU on
    the first sentence of each object counts. The authors report 69.52 mean IoU on RefCOCO val for
    R50; groups, rates and gradients are tested against recordings of their code, the whole run was
    not repeated.
    """
    references, word_length, chooses = PUBLISHED[dataset]
    train = read_refer(dataset, data, "train")
    val = first_sentences(read_refer(dataset, data, chooses))
    torch.manual_seed(config.seed)
    changes = {"dropout": config.dropout, "encoder_norms": config.encoder_norms}
    model = builder_of(arch)(word_length=word_length, hide_id_zero=True, **changes)
    clip = config.clip or clip_checkpoints.OPENAI[CLIPS[arch]]
    load_state(model, read_weights(clip), model.from_published)
    return published_job(model, arch, train, val, config)


def published_job(
    model: CRIS,
    arch: str,
    train: ReferringDataset,
    val: ReferringDataset,
    config: PublishedConfig,
) -> Job:
    """The published run of a model that has the weights to start from.

    Args:
        model: what is trained.
        arch: its registered name.
        train: what is learned from.
        val: what chooses the epoch.
        config: the run.
    """
    letterbox = cast(Letterbox, model.protocols["published"].preprocess)
    if torch.cuda.is_available() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # published
    samples = OneSentence(
        train,
        enter=letterbox,
        enter_mask=letterbox.enter_mask,
        length=config.steps * config.batch_size,
        seed=config.seed,
    )

    def validate() -> float:
        device = next(model.parameters()).device
        return evaluate(Segmenter(model, protocol="published", device=device), val).mean_iou

    return Job(
        objective=ExpressionObjective(model).train(),
        samples=samples,
        groups=published_groups(model, config, epoch=len(train)),
        save=partial(save_whole, model, arch),
        validate=validate,
        epoch=len(train),
        fingerprint=joint([train.fingerprint(), val.fingerprint()]),
    )


def published_groups(
    model: CRIS, config: PublishedConfig, *, epoch: int
) -> list[dict[str, object]]:
    """The encoder but for its position embeddings, and the rest, which learns faster.

    In the first epoch both learn alike: see ``published_rates``, whose schedule this is.

    Args:
        model: what is trained.
        config: the run.
        epoch: samples in one.
    """
    run = schedule_of(config.optim, config.steps)

    def slowly(step: int) -> float:
        first = step * config.batch_size < epoch
        return run(step) * (1.0 if first else config.optim.backbone_factor)

    groups: list[dict[str, object]] = []
    for slow, schedule in ((True, cast(Schedule, slowly)), (False, run)):
        named = [
            (name, parameter)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and learns_slowly(name) == slow
        ]
        groups.append(
            {
                "params": [parameter for _, parameter in named],
                "names": [name for name, _ in named],
                "lr": config.optim.lr,
                "weight_decay": config.optim.weight_decay,
                "schedule": schedule,
            }
        )
    return groups


def first_sentences(dataset: ReferringDataset) -> ReferringDataset:
    """Every object with its first sentence alone, by which the authors choose an epoch."""
    kept: list[Reference] = [
        replace(each, expressions=each.expressions[:1]) if isinstance(each, FileReference) else each
        for each in dataset.references
    ]
    return replace(dataset, references=tuple(kept))


def _published_recipe(arch: str, dataset: str) -> Recipe:
    name, steps = f"{arch}.{dataset}", round(EPOCHS * PUBLISHED[dataset][0] / BATCH)

    def build(data: Path, config: PublishedConfig) -> Job:
        return cris_published(arch, dataset, data, config)

    build.__doc__ = str(cris_published.__doc__).replace("cris_r50.refcoco ", f"{name} ")
    return Recipe(
        name=name,
        summary=f"CRIS {arch.removeprefix('cris_').upper()} on {dataset}, as published",
        config=PublishedConfig(steps=steps),
        build=build,
    )


CRIS_PUBLISHED = tuple(_published_recipe(arch, name) for arch in CLIPS for name in PUBLISHED)
