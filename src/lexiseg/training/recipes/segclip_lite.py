"""SegCLIP's head on the bundled encoder, from captions and names alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lexiseg.cache import cache_folder
from lexiseg.encoders.lite_checkpoints import (
    BUNDLED,
    head_metadata,
    pack_head,
    pack_model,
    read_encoder,
)
from lexiseg.images import Preprocess
from lexiseg.methods.segclip.grouping import gumbel_noise
from lexiseg.methods.segclip.lite import SegCLIPLite
from lexiseg.methods.segclip.objectives import (
    contrastive_loss,
    reconstruction_loss,
    superpixel_loss,
)
from lexiseg.methods.segclip.reconstruction import MaskedDecoder, Reconstruction, hide
from lexiseg.registry import builder_of
from lexiseg.superpixels import SuperpixelCache
from lexiseg.training.losses import soft_maximum
from lexiseg.training.optim import parameter_groups
from lexiseg.training.run import Batch, Job, OptimConfig, Recipe, TrainConfig
from lexiseg.training.sentences import CropConfig, ToldCrop, told_crops
from lexiseg.weights import load_state, save_weights, state_sha256

ARCH = "segclip_lite"
PATCH = 8  # of the encoder, in pixels
QUICK_RATE = 20.0  # factor of the rate of the two numbers that mix cost and regions


@dataclass(frozen=True)
class SegCLIPLiteTrainConfig(TrainConfig):
    """A run of the head; what an ablation changes is here.

    Attributes:
        contrast: weight of the contrastive loss of image and sentence.
        maps: weight of the loss that finds an image's sentence by its maps.
        hidden_patches: weight of the loss that rebuilds hidden cells. 0 leaves it out: published is
            1, but at this scale it costs 0.01 mIoU (docs/benchmarks.md).
        superpixels: weight of the loss that keeps a superpixel in one group; likewise.
        groups: number of centres.
        frozen_centres: the centres stay as they are drawn.
        frozen_grouping: all of the group module stays as it is drawn.
        encoder: file of the encoder's weights; "" for the bundled one. One that is not bundled is
            stored with the head.
        crop: side of the squares that are learned from, in pixels; a multiple of 32.
    """

    steps: int = 160
    batch_size: int = 24
    average: float = 0.99
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-4, clip_norm=1.0))
    contrast: float = 1.0
    maps: float = 1.0
    hidden_patches: float = 0.0
    superpixels: float = 0.0
    groups: int = 8
    frozen_centres: bool = False
    frozen_grouping: bool = False
    encoder: str = ""
    crop: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("contrast", "maps", "hidden_patches", "superpixels"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} {getattr(self, name)} came; it must be 0 or more")
        if self.crop < 32 or self.crop % 32:
            raise ValueError(f"crop {self.crop} came; it must be a multiple of 32")
        if self.batch_size == self.accumulate:
            raise ValueError("single samples came; a contrast needs two at once or more")


class LiteRegionsObjective(nn.Module):
    """Losses of the head on one batch.

    * ``contrast``: an image finds its sentence and a sentence its image, by the image's feature
      and by the best of its regions.
    * ``maps``: an image finds its sentence by a soft maximum over the final maps.
    * ``hidden patches``: what the encoder sees at hidden cells is rebuilt from the groups.
    * ``superpixels``: cells of one superpixel go to the same group.

    A sentence that is as true of another image of the batch, as far as names tell, is not held
    against it.

    Args:
        model: whose head is trained.
        config: weights of the losses.
    """

    def __init__(self, model: SegCLIPLite, config: SegCLIPLiteTrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        width = model.width
        self.reconstruction = None
        if config.hidden_patches:
            self.reconstruction = Reconstruction(
                groups=model.config.groups,
                dim=width,
                heads=model.config.heads,
                blocks=1,
                decoder=MaskedDecoder(dim=width, width=width // 2, heads=4, layers=1, shown=width),
            )

    def train(self, mode: bool = True) -> "LiteRegionsObjective":
        """As for any module, but the frozen encoder stays as it is in use."""
        super().train(mode)
        self.model.encoder.eval()
        return self

    def forward(self, batch: Batch | Sequence[ToldCrop]) -> dict[str, Tensor]:
        """Named losses of a batch."""
        model, config = self.model, self.config
        images = torch.stack([sample.image for sample in batch])
        superpixels = torch.stack([sample.superpixels for sample in batch]).flatten(1)
        with torch.no_grad():
            texts = model.encode_texts([[sample.sentence] for sample in batch]).features
        cells = model.cells(images)
        noise = gumbel_noise((len(images), model.config.groups, cells.tokens.shape[1]))
        groups = model.grouping(cells.tokens, noise=noise.to(images.device))
        left_out = not_compared(list(batch)).to(images.device)
        found, regions = model.regions(cells, groups, groups.assignment)
        scale = model.encoder.logit_scale.exp()
        best = torch.einsum("bgd,td->btg", regions, texts).amax(dim=2)
        losses = {
            "contrast": config.contrast
            * (
                contrastive_loss(found, texts, scale, left_out=left_out)
                + both_ways(scale * best, left_out)
            )
            / 2,
            "maps": config.maps
            * both_ways(soft_maximum(model.logits(cells, groups, texts)), left_out),
        }
        if config.superpixels:
            divergence = superpixel_loss(groups.logits, superpixels)
            losses["superpixels"] = config.superpixels * divergence
        if self.reconstruction is not None:
            hiding = hide(torch.rand(superpixels.shape).to(images.device))
            kept = model.kept(cells, hiding.visible)
            noise = gumbel_noise((len(images), model.config.groups, hiding.kept))
            some = model.grouping(kept, noise=noise.to(images.device))
            predicted = self.reconstruction(some, hiding, cells.grid)
            shown = F.layer_norm(cells.tokens, (model.width,))
            rebuilt = reconstruction_loss(predicted, shown, hiding.hidden)
            losses["hidden patches"] = config.hidden_patches * rebuilt
        return losses


def not_compared(batch: Sequence[ToldCrop]) -> Bool[Tensor, "B B"]:
    """True where the sentence of another sample (column) fits a sample (row) too."""
    rows = [[mine is not other and mine.fits(other) for other in batch] for mine in batch]
    return torch.tensor(rows)


def both_ways(logits: Float[Tensor, "B B"], left_out: Bool[Tensor, "B B"]) -> Float[Tensor, ""]:
    """Cross-entropy of each row and each column, whose own one is on the diagonal."""
    own = torch.arange(len(logits), device=logits.device)
    logits = logits.masked_fill(left_out, -torch.inf)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def segclip_lite(data: Path, config: SegCLIPLiteTrainConfig) -> Job:
    """SegCLIP's head on the bundled encoder.

    ``lexiseg train segclip_lite --data ../shared/data --out runs/segclip_lite``

    It learns from captions, whole-image names and sentences made of the names that photographs
    show; no mask is read. Ablations: ``--set superpixels=1``, ``--set hidden_patches=1``,
    ``--set groups=16``, ``--set frozen_centres=true``, ``--set frozen_grouping=true``.
    """
    torch.manual_seed(config.seed)
    model: SegCLIPLite = builder_of(ARCH)(groups=config.groups)
    load_state(model.encoder, read_encoder(config.encoder or BUNDLED[-1]))
    model.encoder.requires_grad_(False)
    if config.frozen_centres:
        model.grouping.centres.requires_grad_(False)
    if config.frozen_grouping:
        model.grouping.requires_grad_(False)
    objective = LiteRegionsObjective(model, config).train()
    preprocess: Preprocess = model.preprocess
    samples = told_crops(
        data,
        preprocess=preprocess,
        superpixels=SuperpixelCache(cache_folder() / "superpixels"),
        config=CropConfig(crop=config.crop, cell=PATCH * model.config.pooling),
        length=config.steps * config.batch_size,
        seed=config.seed,
    )
    return Job(
        objective=objective,
        samples=samples,
        groups=parameter_groups(
            objective,
            lr=config.optim.lr,
            weight_decay=config.optim.weight_decay,
            multipliers={"model.region_part": QUICK_RATE, "model.log_gain": QUICK_RATE},
        ),
        save=partial(_save, model),
        fingerprint=samples.fingerprint(),
    )


def _save(model: SegCLIPLite, path: Path) -> Path:
    """The head in half precision; with what differs from the encoders that are bundled."""
    checksum = state_sha256(model.encoder.state_dict())
    is_bundled = checksum in [state_sha256(read_encoder(weights)) for weights in BUNDLED]
    state = pack_head(model) if is_bundled else pack_model(model, model.encoder)
    save_weights(path, state, head_metadata(ARCH, model.encoder))
    return path


SEGCLIP_LITE = Recipe(
    ARCH,
    "SegCLIP's head on the bundled encoder, from captions and names alone",
    SegCLIPLiteTrainConfig(),
    segclip_lite,
)
