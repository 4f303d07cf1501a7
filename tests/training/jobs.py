"""Jobs as small as can be, one of each kind that the loop has to fit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from lexiseg.training.gather import gather_rows
from lexiseg.training.loop import fit
from lexiseg.training.metrics import read_metrics
from lexiseg.training.optim import parameter_groups, schedule_of
from lexiseg.training.run import Batch, Job, OptimConfig, TrainConfig
from lexiseg.weights import save_weights

CONFIG = TrainConfig(
    steps=20, batch_size=4, checkpoint_every=5, average=0.9, optim=OptimConfig(lr=0.05)
)


@dataclass(frozen=True)
class Point:
    """A sample."""

    x: Tensor
    y: Tensor


class Line(Dataset[Point]):
    """Points of the line."""

    def __init__(self, length: int = 400) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Point:
        x = torch.rand(1, generator=torch.Generator().manual_seed(index))
        return Point(x, 3 * x - 1)


class SquaredLoss(nn.Module):
    """Mean over the samples of the squared distance from the line."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of a batch."""
        x, y = torch.stack([p.x for p in batch]), torch.stack([p.y for p in batch])
        dtype = next(self.model.parameters()).dtype
        return {"error": (self.model(x.to(dtype)) - y.to(dtype)).square().mean()}


class Late(nn.Module):
    """A second layer joins in at a step; before it, that layer has no gradient."""

    def __init__(self, joins: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.second = nn.Linear(1, 1).double(), nn.Linear(1, 1).double()
        self.joins = joins

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of a batch."""
        x, y = (torch.stack([getattr(p, name) for p in batch]).double() for name in "xy")
        found = self.first(x) + (self.second(x) if batch.step >= self.joins else 0)
        return {"error": (found - y).square().mean()}


def line_model(dropout: float = 0.1) -> nn.Module:
    """The same weights at every call."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 1))


def line_job(config: TrainConfig = CONFIG, *, model: nn.Module | None = None, **more: Any) -> Job:
    """A job on the line; keyword arguments replace its fields."""
    objective = more.pop("objective", None) or SquaredLoss(model or line_model())

    def save(path: Path) -> Path:
        save_weights(path, dict(objective.state_dict()), {"model": "line"})
        return path

    groups = parameter_groups(objective, lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    parts = {"objective": objective, "samples": Line(), "groups": groups, "save": save, **more}
    return Job(**parts)


@dataclass(frozen=True)
class Caption:
    """An image with the ids of its words and its superpixels."""

    image: Tensor
    tokens: Tensor
    superpixels: Tensor


class Captions(Dataset[Caption]):
    """Made images with two words, the brightness in tenths and its double."""

    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> Caption:
        image = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(index)).double()
        shade = int(image.mean() * 10)
        superpixels = torch.arange(16).view(4, 4) // 4
        return Caption(image, torch.tensor([shade, 2 * shade]), superpixels)


class Contrast(nn.Module):
    """Each image is told from all captions of the batch, and each caption from all images.

    A second loss makes what is in a superpixel alike.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.pixels = nn.Conv2d(3, 6, 1).double()
        self.words = nn.Embedding(20, 6).double()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch."""
        maps = self.pixels(torch.stack([sample.image for sample in batch]))
        images = F.normalize(maps.mean(dim=(2, 3)), dim=-1)
        tokens = torch.stack([sample.tokens for sample in batch])
        texts = F.normalize(self.words(tokens).mean(dim=1), dim=-1)
        (all_images, first), (all_texts, _) = gather_rows(images), gather_rows(texts)
        own = torch.arange(len(batch), device=images.device) + first
        contrast = F.cross_entropy(5 * images @ all_texts.T, own)
        contrast = contrast + F.cross_entropy(5 * texts @ all_images.T, own)
        spread = [
            m[:, sample.superpixels == 0].var(dim=1).mean()
            for m, sample in zip(maps, batch, strict=True)
        ]
        return {"contrast": contrast, "spread": torch.stack(spread).mean()}


@dataclass(frozen=True)
class Referred:
    """An image, the ids of an expression's words, and the mask of what it names."""

    image: Tensor
    words: Tensor
    mask: Tensor


class Expressions(Dataset[Referred]):
    """Word 0 names the left half of an image, word 1 the right half."""

    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> Referred:
        image = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(index)).double()
        image[:, :, 2:] += 1
        mask = torch.zeros(4, 4, dtype=torch.bool)
        mask[:, 2 * (index % 2) : 2 * (index % 2) + 2] = True
        return Referred(image, torch.tensor([index % 2]), mask)


class Pointing(nn.Module):
    """Pixels against the expression's vector; the image side is frozen, the text side slow."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.image_encoder = nn.Conv2d(1, 4, 1).double().requires_grad_(False)
        self.text_encoder = nn.Embedding(2, 4).double()
        self.head = nn.Conv2d(4, 4, 1).double()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of a batch."""
        features = self.head(self.image_encoder(torch.stack([s.image for s in batch])))
        words = self.text_encoder(torch.stack([s.words for s in batch])).mean(dim=1)
        logits = torch.einsum("bchw,bc->bhw", features, words)
        masks = torch.stack([s.mask for s in batch]).to(logits)
        return {"mask": F.binary_cross_entropy_with_logits(logits, masks)}


def job_of(kind: str) -> Job:
    """A job of each kind that the loop has to fit."""
    if kind == "line":
        return line_job(model=line_model(dropout=0).double())
    if kind == "late":
        return line_job(objective=Late(7))
    if kind == "captions":
        return line_job(objective=Contrast(), samples=Captions())
    objective = Pointing()
    groups = parameter_groups(
        objective, lr=0.05, weight_decay=0.01, multipliers={"text_encoder": 0.1}
    )
    steps = schedule_of(OptimConfig(schedule="multi-step", milestones=(0.5,)), CONFIG.steps)
    groups[0]["schedule"] = steps
    return line_job(objective=objective, samples=Expressions(), groups=groups)


class StopError(Exception):
    """What a test stops a run with."""


def run(out: Path, config: TrainConfig = CONFIG, stop_at: int | None = None, **more: object) -> Job:
    job = line_job(config, **more)

    def stop(step: int, losses: dict[str, float]) -> None:
        if step == stop_at:
            raise StopError

    fit(job, config, out, on_step=stop)
    return job


def rows(out: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    found = read_metrics(out / "metrics.jsonl")
    return [{key: row[key] for key in row if key != "seconds"} for row in found]


def assert_same(first: nn.Module, second: nn.Module) -> None:
    state = second.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, state[name]), name
