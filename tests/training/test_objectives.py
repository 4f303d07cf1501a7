import pytest
import torch

from lexiseg.data.mixture import TrainingSample
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.minilm import MiniLM, MiniLMConfig
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.training.objectives import (
    HeadObjective,
    LiteObjective,
    choose_names,
    image_label_loss,
    name_weights,
    weighted_cross_entropy,
)

NAMES = ("background", "dog", "sky", "car")


def sample(label_map, names=NAMES, image_label=None):
    return TrainingSample(torch.randn(3, *label_map.shape), label_map, names, image_label)


def label_map(*ids, size=32):
    labels = torch.full((size, size), 255)
    for row, index in enumerate(ids):
        labels[row * 8 : row * 8 + 8] = index
    return labels


def test_ignored_pixels_say_nothing():
    logits = torch.randn(4, 8, 8)
    labels = label_map(1, 2, size=8)[::1]
    labels = torch.full((8, 8), 255)
    labels[0] = 1
    changed = logits.clone()
    changed[:, 4:] += 10 * torch.randn(4, 4, 8)
    first = weighted_cross_entropy(logits, labels, NAMES, 0.5)
    assert torch.equal(first, weighted_cross_entropy(changed, labels, NAMES, 0.5))
    assert weighted_cross_entropy(logits, torch.full((8, 8), 255), NAMES, 0.5) == 0


def test_background_counts_less():
    logits = torch.zeros(2, 8, 8)
    logits[0] = 2.0  # says background everywhere
    labels = torch.zeros(8, 8, dtype=torch.long)
    labels[4:] = 1
    heavy = weighted_cross_entropy(logits, labels, ("background", "dog"), 1.0)
    light = weighted_cross_entropy(logits, labels, ("background", "dog"), 0.1)
    assert light > heavy  # the wrong half now weighs more


def test_a_small_region_weighs_more_for_each_pixel():
    labels = torch.zeros(100, dtype=torch.long).view(10, 10)
    labels[0, 0] = 1
    weights = name_weights(labels, 3)
    assert weights[1] == pytest.approx(0.01**-0.25, rel=1e-4)
    assert weights[0] < weights[1]


def test_a_whole_image_name_is_found_by_its_best_patches():
    logits = torch.zeros(3, 4, 4)
    logits[1, 0, 0] = 20.0
    assert image_label_loss(logits, 1) < 0.01 < image_label_loss(logits, 0)


@pytest.mark.parametrize("at_most", [1, 3, 10])
def test_all_shown_names_are_kept_and_labels_follow(at_most):
    names = tuple(f"n{i}" for i in range(20))
    labels = label_map(17, 4)
    torch.manual_seed(0)
    moved, kept, image_label = choose_names(sample(labels, names), at_most)
    assert {"n17", "n4"} <= set(kept)
    assert len(kept) == max(2, at_most)
    assert len(set(kept)) == len(kept)
    assert (moved[labels == 17] == kept.index("n17")).all()
    assert (moved[labels == 4] == kept.index("n4")).all()
    assert (moved[labels == 255] == 255).all()
    assert image_label is None


def test_the_whole_image_name_is_kept():
    _, kept, image_label = choose_names(sample(label_map(), image_label=2), 3)
    assert kept[image_label] == "sky"


def test_the_encoder_learns_one_batch():
    torch.manual_seed(0)
    encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
    encoder.text.requires_grad_(False)
    teacher = (["dog", "sky", "car"], torch.randn(3, 8))
    objective = LiteObjective(encoder, NAMES, teacher).train()
    batch = [sample(label_map(1, 2, size=64)), sample(label_map(size=64), image_label=3)]
    optimizer = torch.optim.AdamW((p for p in encoder.parameters() if p.requires_grad), lr=3e-3)
    totals = []
    for _ in range(8):
        losses = objective(batch)
        assert set(losses) == {"likeness", "dense", "image"}
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.6 * totals[0]


class Linear(SegmentationModel):
    """One logit map a text: a 1x1 convolution of the pixels, by the text's features."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 5, 1)

    def encode_texts(self, prompts):
        features = torch.randn(len(prompts), 5, generator=torch.Generator().manual_seed(0))
        return Texts(torch.nn.functional.normalize(features, dim=-1))

    def forward(self, images, texts):
        return torch.einsum("bchw,tc->bthw", self.layer(images), texts.features)


def test_a_head_gets_gradients_from_every_kind_of_sample():
    torch.manual_seed(0)
    model = Linear()
    objective = HeadObjective(model, NAMES, texts_at_most=2)
    losses = objective([sample(label_map(0, 1)), sample(label_map(), image_label=3)])
    assert set(losses) == {"dense", "each", "image"}
    for loss in losses.values():
        model.zero_grad()
        loss.backward(retain_graph=True)
        assert model.layer.weight.grad.abs().sum() > 0
