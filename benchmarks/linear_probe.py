"""A closed-set classifier on a model's own patch features: what its encoder could do.

python benchmarks/linear_probe.py ../shared/data/scenes/facades [MODEL]

One linear layer for the classes of one data set is trained on the frozen features of its train
split and scored on val. Unlike the models it knows no other class, and no class that it was not
trained on.
"""

import json
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lexiseg
from lexiseg.data.semantic import SemanticDataset, read_semantic_folder
from lexiseg.evaluation.metrics import ConfusionMatrix, semantic_scores
from lexiseg.methods.base import SegmentationModel

EPOCHS, PATCHES, RATE = 12, 8192, 3e-3


def main(folder: str, name: str = "maskclip_lite") -> None:
    """Train, score, print one line of JSON."""
    torch.manual_seed(0)
    model = lexiseg.Segmenter.from_pretrained(name).model
    train, val = (read_semantic_folder(folder, split) for split in ("train", "val"))
    features, labels = read_patches(model, train)
    probe = fit(features, labels, len(train.class_names))
    matrix = ConfusionMatrix(len(val.class_names), ignore_index=255)
    for index in range(len(val)):
        sample = val[index]
        logits = F.conv2d(patches(model, sample.image), probe.weight[..., None, None], probe.bias)
        logits = model.preprocess.restore(logits[0], sample.image.shape[:2])
        matrix.update(logits.argmax(dim=0).numpy(), sample.label_map)
    scores = semantic_scores(matrix.counts)
    found = {"data": folder, "features": name, "mean_iou": round(scores.mean_iou, 4)}
    print(json.dumps({**found, "pixel_accuracy": round(scores.pixel_accuracy, 4)}))


@torch.no_grad()
def patches(model: SegmentationModel, image: np.ndarray) -> Tensor:
    """The directions of a photograph's patches, (1, D, h, w)."""
    features = model.encoder.encode_images(model.preprocess(image)[None]).patch_features
    return F.normalize(features.float(), dim=1)


def read_patches(model: SegmentationModel, dataset: SemanticDataset) -> tuple[Tensor, Tensor]:
    """All labelled patches of a split with the label at their middle."""
    rows, ids = [], []
    for index in range(len(dataset)):
        sample = dataset[index]
        features = patches(model, sample.image)
        labels = torch.from_numpy(sample.label_map.astype(np.int64))[None, None].float()
        labels = F.interpolate(labels, size=features.shape[-2:], mode="nearest-exact")[0, 0].long()
        known = labels != 255
        rows.append(features[0, :, known].T.half())
        ids.append(labels[known])
    return torch.cat(rows), torch.cat(ids)


def fit(features: Tensor, labels: Tensor, count: int) -> nn.Linear:
    """Cross-entropy by Adam, the rate falling to 0."""
    probe = nn.Linear(features.shape[1], count)
    with torch.no_grad():
        probe.weight.mul_(10)  # directions have length one: logits start at a useful size
    optimizer = torch.optim.Adam(probe.parameters(), lr=RATE)
    steps = EPOCHS * (1 + len(labels) // PATCHES)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (PATCHES,))
        loss = F.cross_entropy(10 * probe(features[chosen].float()), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        probe.weight.mul_(10)
        probe.bias.mul_(10)
    return probe


if __name__ == "__main__":
    main(*sys.argv[1:])
