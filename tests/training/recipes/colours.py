"""Photographs of colours, and steps of a run on them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lexiseg.training.run import Batch, Job

COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200), "green": (40, 200, 40)}


def write_data(root: Path, splits: Sequence[str], names: Sequence[str] = tuple(COLOURS)) -> Path:
    """Photographs of two colours side by side, four in a split; "" writes no splits."""
    for split in splits:
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(4):
            mask = np.full((48, 64), index % 3, np.uint8)
            mask[:, 32:] = (index + 1) % 3
            mask[:4] = 255
            pixels = np.array(list(COLOURS.values()), np.uint8)[mask % 3]
            Image.fromarray(pixels).save(root / split / "images" / f"p{index}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"p{index}.png")
    classes = {str(index): name for index, name in enumerate(names)}
    (root / "classes.json").write_text(json.dumps({"classes": classes, "ignore": 255}))
    return root


def groups_by_name(job: Job) -> dict[str, list[float]]:
    return {
        name: [group["lr"], group["weight_decay"]]
        for group in job.groups
        for name in group["names"]
    }


def optimiser_of(job: Job) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [{key: group[key] for key in ("params", "lr", "weight_decay")} for group in job.groups]
    )


def learn(job: Job, steps: int, batch_size: int) -> list[float]:
    """The losses of some steps without a schedule."""
    optimiser, losses = optimiser_of(job), []
    for number in range(steps):
        samples = [job.samples[number * batch_size + i] for i in range(batch_size)]
        (loss,) = job.objective(Batch(samples)).values()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def write_stuff(root: Path) -> Path:
    """COCO-Stuff of one photograph."""
    for kind, suffix in (("images", "jpg"), ("annotations_detectron2", "png")):
        folder = root / "coco-stuff" / kind / "train2017"
        folder.mkdir(parents=True)
        shape = (300, 400, 3) if suffix == "jpg" else (300, 400)
        Image.fromarray(np.full(shape, 7, np.uint8)).save(folder / f"000000000009.{suffix}")
    return root
