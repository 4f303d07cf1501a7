from dataclasses import replace

import pytest
import torch

from lexiseg.data.mixture import Taught, TrainingSample
from lexiseg.data.semantic import IGNORE_INDEX
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.minilm import MiniLM, MiniLMConfig
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.training.objectives import (
    FewNames,
    HeadObjective,
    LiteObjective,
    hardest_names,
    image_label_loss,
    name_weights,
    overlap_loss,
    weighted_cross_entropy,
)
from lexiseg.training.run import Batch

NAMES = ("background", "dog", "sky", "car")


def sample(label_map, names=NAMES, image_label=None):
    return TrainingSample(torch.randn(3, *label_map.shape), label_map, names, image_label)


def label_map(*ids, size=32):
    labels = torch.full((size, size), 255)
    for row, index in enumerate(ids):
        labels[row * 8 : row * 8 + 8] = index
    return labels


class Same(torch.utils.data.Dataset):
    """One picture again and again."""

    def __init__(self, sample):
        self.sample = sample

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return self.sample


FIFTY = sample(label_map(1), tuple(f"n{i}" for i in range(50)))


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
    weights = name_weights(labels.flatten(), 3)
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
    chosen = FewNames(Same(sample(labels, names)), at_most=at_most, seed=0)[0]
    moved, kept = chosen.label_map, chosen.class_names
    assert {"n17", "n4"} <= set(kept)
    assert len(kept) == max(2, at_most)
    assert len(set(kept)) == len(kept)
    assert (moved[labels == 17] == kept.index("n17")).all()
    assert (moved[labels == 4] == kept.index("n4")).all()
    assert (moved[labels == 255] == 255).all()
    assert chosen.image_label is None


def test_the_whole_image_name_is_kept():
    chosen = FewNames(Same(sample(label_map(), image_label=2)), at_most=3, seed=0)[0]
    assert chosen.class_names[chosen.image_label] == "sky"


def test_label_maps_of_16_bits_are_narrowed():
    names = tuple(f"n{i}" for i in range(300))
    labels = torch.tensor([[299, 255], [65535, 0]])
    wide = TrainingSample(torch.zeros(3, 2, 2), labels, names, None, 65535)
    chosen = FewNames(Same(wide), at_most=4, seed=0)[0]
    assert len(chosen.class_names) == 4
    named = [chosen.class_names[i] for i in chosen.label_map[labels != 65535]]
    assert named == ["n299", "n255", "n0"]
    assert chosen.label_map[1, 0] == chosen.ignore_index == 65535


def test_names_depend_on_the_seed_and_the_index_alone():
    few = FewNames(Same(FIFTY), at_most=5, seed=1)
    assert len(few) == 9
    assert few[3].class_names == FewNames(Same(FIFTY), at_most=5, seed=1)[3].class_names
    others = {few[4].class_names, FewNames(Same(FIFTY), at_most=5, seed=2)[3].class_names}
    assert few[3].class_names not in others


@pytest.mark.parametrize("kind", ["head", "encoder"])
def test_the_loss_of_a_batch_is_the_mean_of_its_parts(kind):
    torch.manual_seed(0)
    if kind == "head":
        objective = HeadObjective(Linear(), rainbow, NAMES)
    else:  # eval: batch norms must not mix the samples
        encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
        objective = LiteObjective(encoder, NAMES, (["dog", "sky"], torch.randn(2, 8))).eval()
    samples = [
        sample(label_map(1, 2, size=64)),
        sample(label_map(size=64), image_label=3),
        sample(label_map(size=64)),
        sample(label_map(0, size=64)),
    ]
    with torch.no_grad():
        whole = objective(Batch(samples, step=1))
        parts = [objective(Batch(samples[i : i + 2], step=1)) for i in (0, 2)]
    for name, loss in whole.items():
        torch.testing.assert_close(loss, (parts[0][name] + parts[1][name]) / 2)


def test_the_names_that_are_compared_change_with_the_step():
    torch.manual_seed(0)
    encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
    teacher = ([f"thing {i}" for i in range(6)], torch.randn(6, 8))
    objective = LiteObjective(encoder, NAMES, teacher, likeness_names=2).eval()
    samples = [sample(label_map(1, size=64))]
    with torch.no_grad():
        found = [float(objective(Batch(samples, step=s))["likeness"]) for s in (0, 0, 1, 2)]
    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_the_encoder_learns_one_batch():
    torch.manual_seed(0)
    encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
    encoder.text.requires_grad_(False)
    teacher = (["dog", "sky", "car"], torch.randn(3, 8))
    objective = LiteObjective(encoder, NAMES, teacher).train()
    batch = Batch([sample(label_map(1, 2, size=64)), sample(label_map(size=64), image_label=3)])
    optimizer = torch.optim.AdamW((p for p in encoder.parameters() if p.requires_grad), lr=3e-3)
    totals = []
    for _ in range(8):
        losses = objective(batch)
        assert set(losses) == {"likeness", "dense", "overlap", "image", "teacher"}
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


def rainbow(images):
    """Patch features: the pixels, and two of their channels again."""
    return torch.cat([images, images[:, :2]], dim=1)


def test_absent_names_are_those_that_the_encoder_finds():
    names = tuple(f"n{i}" for i in range(12))
    likeness = torch.arange(12.0)
    chosen = hardest_names(sample(label_map(11, 3), names), likeness, 6, 2)
    assert chosen.class_names == ("n3", "n11", "n10", "n9", "n0", "n1")
    assert chosen.label_map[0, 0] == 1
    assert hardest_names(sample(label_map(2, 3), names), likeness, 1, 2).class_names == ("n2", "n3")


def test_a_head_is_scored_against_hard_names():
    names = tuple(f"n{i}" for i in range(40))
    objective = HeadObjective(Linear(), rainbow, names, at_most=6, hard=4)
    one = sample(label_map(1), names)
    chosen = objective._chosen(Batch([one]))[0]
    cost = torch.einsum(
        "dn,td->tn",
        torch.nn.functional.normalize(torch.cat([one.image, one.image[:2]]).flatten(1), dim=0),
        objective.texts,
    ).amax(dim=1)
    hardest = [f"n{i}" for i in cost.argsort(descending=True).tolist() if i != 1][:4]
    assert list(chosen.class_names[:5]) == ["n1", *hardest]
    assert len(chosen.class_names) == 6


def test_overlap_of_regions():
    labels = torch.zeros(4, 4, dtype=torch.long)
    labels[:2] = 1
    sure = 50.0 * torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).float()
    names = ("background", "dog", "sky")
    assert overlap_loss(sure, labels, names) == pytest.approx(0, abs=1e-6)
    # All of it called dog: twice the 8 pixels in common over 16 + 8.
    wrong = torch.zeros(3, 4, 4)
    wrong[1] = 50.0
    assert overlap_loss(wrong, labels, names) == pytest.approx(1 - 16 / 24, abs=1e-6)
    labels[2:] = 255  # nobody's pixels count neither way
    assert overlap_loss(wrong, labels, names) == pytest.approx(0, abs=1e-6)
    assert overlap_loss(wrong, torch.zeros_like(labels), names) == 0


def test_a_head_gets_gradients_from_every_kind_of_sample():
    torch.manual_seed(0)
    model = Linear()
    objective = HeadObjective(model, rainbow, NAMES)
    losses = objective(Batch([sample(label_map(0, 1)), sample(label_map(), image_label=3)]))
    assert set(losses) == {"dense", "each", "overlap", "image"}
    for loss in losses.values():
        model.zero_grad()
        loss.backward(retain_graph=True)
        assert model.layer.weight.grad.abs().sum() > 0


def test_the_encoder_learns_what_a_teacher_sees():
    torch.manual_seed(0)
    encoder = Lite(text=MiniLM(MiniLMConfig(layers=1)))
    encoder.text.requires_grad_(False)
    objective = LiteObjective(encoder, [*NAMES, "cat"], (["dog", "sky"], torch.randn(2, 8))).train()
    seen = torch.zeros(64, 64, dtype=torch.long)
    seen[:, 32:] = 1
    unlabelled = sample(label_map(size=64))
    shown = replace(unlabelled, taught=(Taught(seen, ("cat", NAMES[0])),))
    unsure = replace(shown, taught=(Taught(torch.full((64, 64), IGNORE_INDEX), ("cat", NAMES[0])),))
    assert objective(Batch([unsure]))["teacher"] == 0
    optimizer = torch.optim.AdamW((p for p in encoder.parameters() if p.requires_grad), lr=3e-3)
    losses = []
    for _ in range(8):
        losses.append(objective(Batch([shown]))["teacher"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
