import torch
import torch.nn.functional as F

from lexiseg.methods.freeda.pamr import pixel_affinity, refine


def test_affinities_add_up_to_one() -> None:
    affinity = pixel_affinity(255 * torch.rand(3, 12, 15), (1, 2))
    assert affinity.shape == (16, 12, 15)
    torch.testing.assert_close(affinity.sum(dim=0), torch.ones(12, 15))


def test_one_step_by_hand() -> None:
    """A step is the mean of the neighbours, weighted by how alike their colours are."""
    image, scores = 255 * torch.rand(3, 6, 7), torch.rand(2, 6, 7)
    wide = F.pad(image[None], [1] * 4, mode="replicate")[0]
    around = F.pad(scores[None], [1] * 4, mode="replicate")[0]
    y, x = 2, 3
    colours = wide[:, y : y + 3, x : x + 3].flatten(1)
    difference = (colours - colours[:, 4:5]).abs() / (1e-8 + 0.1 * colours.std(dim=1, keepdim=True))
    others = [0, 1, 2, 3, 5, 6, 7, 8]
    weights = (-difference.mean(dim=0)[others]).softmax(dim=0)
    expected = (around[:, y : y + 3, x : x + 3].flatten(1)[:, others] * weights).sum(dim=1)
    found = refine(scores, pixel_affinity(image, (1,)), iterations=1, dilations=(1,))
    torch.testing.assert_close(found[:, y, x], expected)


def test_an_edge_of_colours_is_not_crossed() -> None:
    image = torch.zeros(3, 8, 10)
    image[:, :, 5:] = 255
    scores = torch.zeros(1, 8, 10)
    scores[0, 3, 2] = 1
    refined = refine(scores, pixel_affinity(image, (1, 2)), iterations=10, dilations=(1, 2))
    assert refined[0, :, 5:].max() < 0.01 * refined[0, :, :5].max()
