"""SegCLIP: the published run."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset

from lexiseg.cache import cache_folder
from lexiseg.data.captions import CaptionDataset, read_captions
from lexiseg.data.fingerprints import joint
from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.encoders.clip import CHANNELS_A_HEAD
from lexiseg.methods.segclip import SegCLIP, finetuning
from lexiseg.methods.segclip.reconstruction import MaskedDecoder, Reconstruction, reset_as_published
from lexiseg.registry import builder_of
from lexiseg.superpixels import SuperpixelCache
from lexiseg.training.captioned import CaptionCrops
from lexiseg.training.optim import parameter_groups
from lexiseg.training.run import Job, OptimConfig, Recipe, TrainConfig, save_whole
from lexiseg.training.segclip_objective import SegCLIPObjective
from lexiseg.weights import load_state, read_weights

ARCH = "segclip_vitb16"
SIZE = 224  # of a crop; a photograph's shorter side, too


@dataclass(frozen=True)
class SegCLIPTrainConfig(TrainConfig):
    """The run of the authors, theirs in every default.

    Attributes:
        published: what their code does and their paper does not want: superpixel ids of patches are
            means of numbers, the superpixel loss is of ones and zeros, norms' weights are decayed,
            the decoder starts from N(0, 0.02). False: majorities, probabilities, no decay, Xavier.
        mix_batch: the bug that the released weights were trained with; see
            ``lexiseg.methods.segclip.grouping.CrossLayer``.
        clip: file of OpenAI's weights to start from; "" downloads them.
        cc3m: tar shards in the data folder: a folder, or a pattern such as
            ``cc3m/{00000..00331}.tar``; "" leaves them out.
        coco: Karpathy's splits of COCO's captions; "" leaves them out.
        superpixels: folder where superpixels are kept; "" for the library's cache.
    """

    steps: int = 43_000
    batch_size: int = 768
    seed: int = 42
    average: float = 0.0
    checkpoint_every: int = 1000
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=finetuning.RATE,
            backbone_factor=finetuning.SLOW_FACTOR,
            weight_decay=finetuning.WEIGHT_DECAY,
            clip_norm=finetuning.CLIP_NORM,
            warmup=finetuning.WARMUP,
        )
    )
    published: bool = True
    mix_batch: bool = False
    clip: str = ""
    cc3m: str = "cc3m"
    coco: str = "coco/dataset_coco.json"
    superpixels: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cc3m and not self.coco:
            raise ValueError("neither cc3m nor coco came; captions of one of them are needed")


def segclip_vitb16(data: Path, config: SegCLIPTrainConfig) -> Job:
    """SegCLIP from OpenAI's CLIP on the captions of CC3M and COCO, as published.

    ``torchrun --nproc_per_node 8 -m lexiseg train segclip_vitb16 --data ROOT --out runs/segclip
    --set clip=ViT-B-16.pt``

    ROOT holds ``cc3m/*.tar`` and ``coco/dataset_coco.json`` beside COCO's photographs, of which
    split "train" is taken. The authors used 8 A100 for 10 epochs of about 3.3 million pairs in
    float32. With fewer devices ``--set accumulate=N`` keeps the batch, but each part then contrasts
    its own captions alone. The authors report 52.6 mIoU on voc21 (protocol "published"); losses,
    gradients, groups and the first step are tested against recordings of their code, the whole run
    was not repeated. Here a loss that is not finite ends the run; they leave such steps out.
    """
    captions = open_captions(data, config)
    torch.manual_seed(config.seed)
    model = builder_of(ARCH)()
    objective = published_objective(model, config)
    clip = config.clip or clip_checkpoints.OPENAI["clip_vitb16"]
    load_state(model, read_weights(clip), model.from_published)
    joined: Any = ConcatDataset(captions)
    samples = CaptionCrops(
        joined,
        preprocess=model.preprocess,
        size=SIZE,
        patch=model.tower.patch_size,
        length=config.steps * config.batch_size,
        seed=config.seed,
        published=config.published,
    )
    return Job(
        objective=objective.train(),
        samples=samples,
        groups=optimiser_groups(objective, config),
        save=partial(save_whole, model, ARCH),
        epoch=len(joined),
        fingerprint=joint(each.fingerprint() for each in captions),
    )


def open_captions(data: Path, config: SegCLIPTrainConfig) -> list[CaptionDataset]:
    """The pairs of both data sets, photographs shrunk, with superpixels.

    Raises:
        ValueError: files are missing or cannot be understood.
    """
    folder = Path(config.superpixels) if config.superpixels else cache_folder() / "superpixels"
    choices: dict[str, Any] = {"shorter": SIZE, "superpixels": SuperpixelCache(folder)}
    opened = []
    if config.cc3m:
        opened.append(read_captions(data / config.cc3m, **choices))
    if config.coco:
        opened.append(read_captions(data / config.coco, split="train", **choices))
    return opened


def published_objective(model: SegCLIP, config: SegCLIPTrainConfig) -> SegCLIPObjective:
    """The losses, with the authors' decoder: 3 blocks of 384 channels."""
    tower = model.tower
    width = len(tower.class_embedding)
    heads = width // CHANNELS_A_HEAD
    reconstruction = Reconstruction(
        groups=model.config.groups,
        dim=width,
        heads=heads,
        blocks=len(tower.blocks) - tower.place,
        decoder=MaskedDecoder(
            dim=width, width=width // 2, heads=8, layers=3, shown=3 * tower.patch_size**2
        ),
    )
    objective = SegCLIPObjective(
        model, reconstruction, published=config.published, mix_batch=config.mix_batch
    )
    if config.published:
        reset_as_published(objective)
    return objective


def optimiser_groups(
    objective: SegCLIPObjective, config: SegCLIPTrainConfig
) -> list[dict[str, Any]]:
    """Groups as published; unless ``config.published``, norms do not decay."""
    for name, parameter in objective.named_parameters():
        if finetuning.is_frozen(name):
            parameter.requires_grad_(False)
    groups = (
        _published_groups(objective, config) if config.published else _groups(objective, config)
    )
    extras: dict[str, Any] = {"betas": finetuning.BETAS, "eps": finetuning.EPSILON}
    if config.published:
        extras["schedule"] = partial(finetuning.rate_factor, steps=config.steps)
    return [{**group, **extras} for group in groups]


def _groups(objective: SegCLIPObjective, config: SegCLIPTrainConfig) -> list[dict[str, Any]]:
    place, factor = objective.model.tower.place, config.optim.backbone_factor
    slow = [n for n, _ in objective.named_parameters() if finetuning.learns_slowly(n, place)]
    return parameter_groups(
        objective,
        lr=config.optim.lr,
        weight_decay=config.optim.weight_decay,
        multipliers=dict.fromkeys(slow, factor),
    )


def _published_groups(
    objective: SegCLIPObjective, config: SegCLIPTrainConfig
) -> list[dict[str, Any]]:
    place, optim = objective.model.tower.place, config.optim
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        slow = finetuning.learns_slowly(name, place)
        rate = optim.lr * (optim.backbone_factor if slow else 1)
        decay = optim.weight_decay if finetuning.is_decayed(name) else 0.0
        group = groups.setdefault(
            (rate, decay), {"params": [], "names": [], "lr": rate, "weight_decay": decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


SEGCLIP_VITB16 = Recipe(
    ARCH,
    "SegCLIP on the captions of CC3M and COCO, as published",
    SegCLIPTrainConfig(),
    segclip_vitb16,
)
