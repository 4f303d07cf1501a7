"""ESC-Net: the published run, as far as it is known."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from lexiseg.data.augment import catseg_crop
from lexiseg.data.catalog import read_benchmark
from lexiseg.encoders import checkpoints as clip_checkpoints
from lexiseg.methods.escnet import ESCNet, set_finetuning
from lexiseg.registry import builder_of
from lexiseg.training.dense import DenseTrainConfig, dense_job
from lexiseg.training.run import Job, OptimConfig, Recipe, save_whole
from lexiseg.weights import read_weights

CLIPS = {"escnet_vitb16": "clip_vitb16", "escnet_vitl14": "clip_vitl14_336"}
CROPS = {"escnet_vitb16": 384, "escnet_vitl14": 336}  # pixels: 24 x 24 patches


@dataclass(frozen=True)
class PublishedConfig(DenseTrainConfig):
    """The run of the paper; what it does not say is CAT-Seg's.

    Attributes:
        clip: file of OpenAI's weights to start from; "" downloads them.
        sam: a file of SAM's, such as ``sam_vit_b_01ec64.pth``; "" draws the SAM blocks at random
            and trains them like the head.
    """

    steps: int = 80_000
    batch_size: int = 4
    average: float = 0.0
    checkpoint_every: int = 5000
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(
            lr=2e-4, weight_decay=1e-4, clip_norm=0.01, schedule="cosine", warmup=0.0
        )
    )
    loss: str = "published"
    clip: str = ""
    sam: str = ""


def escnet_vitb16(data: Path, config: PublishedConfig) -> Job:
    """ESC-Net B from OpenAI's CLIP and SAM on COCO-Stuff.

    ``lexiseg train escnet_vitb16 --data ROOT --out runs/escnet --set clip=ViT-B-16.pt
    --set sam=sam_vit_b_01ec64.pth``

    ROOT holds COCO-Stuff as ``lexiseg data check stuff171 ROOT`` asks for it. The paper gives the
    rates, 2e-4 and 2e-6 for the attention of CLIP and SAM, and 35.6 mIoU on ade150; no code and no
    weights were published, and the whole run was not made here.
    """
    return _published("escnet_vitb16", data, config)


def escnet_vitl14(data: Path, config: PublishedConfig) -> Job:
    """ESC-Net L, from CLIP ViT-L/14@336px; else as :func:`escnet_vitb16`.

    ``lexiseg train escnet_vitl14 --data ROOT --out runs/escnet_l --set clip=ViT-L-14-336px.pt
    --set sam=sam_vit_b_01ec64.pth``
    """
    return _published("escnet_vitl14", data, config)


def _published(arch: str, data: Path, config: PublishedConfig) -> Job:
    dataset = read_benchmark("stuff171", data, "train")
    torch.manual_seed(config.seed)
    model: ESCNet = builder_of(arch)()
    states = {"clip": read_weights(config.clip or clip_checkpoints.OPENAI[CLIPS[arch]])}
    if config.sam:
        states["sam"] = read_weights(config.sam)
    model.initialise(states)
    return dense_job(
        model,
        dataset,
        config,
        augmentation=partial(catseg_crop, size=CROPS[arch]),
        save=partial(save_whole, model, arch),
        multipliers=set_finetuning(model, pretrained_sam=bool(config.sam)),
    )


ESCNET_VITB16 = Recipe(
    "escnet_vitb16", "ESC-Net B on COCO-Stuff, as published", PublishedConfig(), escnet_vitb16
)
ESCNET_VITL14 = Recipe(
    "escnet_vitl14", "ESC-Net L on COCO-Stuff, as published", PublishedConfig(), escnet_vitl14
)
