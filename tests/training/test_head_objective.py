import pytest
import torch

from lexiseg.data.mixture import TrainingSample
from lexiseg.training.head_objective import FewNames, HeadObjective, hardest_names
from lexiseg.training.run import Batch
from tests.training.pictures import FIFTY, NAMES, Linear, Same, label_map, rainbow, sample


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
    larger = sample(label_map(2, size=48), names)  # pictures may differ in size
    chosen = objective._chosen(Batch([one, larger]))[0]
    cost = torch.einsum(
        "dn,td->tn",
        torch.nn.functional.normalize(torch.cat([one.image, one.image[:2]]).flatten(1), dim=0),
        objective.texts,
    ).amax(dim=1)
    hardest = [f"n{i}" for i in cost.argsort(descending=True).tolist() if i != 1][:4]
    assert list(chosen.class_names[:5]) == ["n1", *hardest]
    assert len(chosen.class_names) == 6


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
