"""The patch-text cost."""

import torch

from lexiseg.layers.cost import LEFT_OUT, CostSkip, best_texts, cosine_cost, of_best_texts
from lexiseg.registry import builder_of


def test_the_cost_is_the_cosine_however_long_a_patch_is():
    patches = torch.tensor([[3.0, 0.0], [4.0, 0.1]]).view(1, 2, 1, 2)  # (3, 4) and (0, 0.1)
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.6, -0.8]])
    expected = torch.tensor([[0.6, 0.0], [0.8, 1.0], [-1.0, -0.8]]).view(1, 3, 1, 2)
    torch.testing.assert_close(cosine_cost(patches, texts), expected)
    assert best_texts(expected[0], 2).tolist() == [0, 1]


def test_the_raw_cost_is_added_on_the_grid_of_the_logits():
    cost = torch.tensor([[[[0.0, 1.0]], [[1.0, 1.0]]]])
    logits = torch.zeros(1, 2, 2, 4)
    logits[0, 0] = 2.0
    found = CostSkip(gain=10.0, offset=-1.0)(logits, cost)
    expected = torch.tensor([0.0, 2.5, 7.5, 10.0]) - 1 + 2
    torch.testing.assert_close(found[0, 0], expected.expand(2, 4))
    torch.testing.assert_close(found[0, 1], torch.full((2, 4), 9.0))


def test_a_new_head_with_the_skip_answers_as_the_raw_cost_does():
    torch.manual_seed(0)
    model, image = builder_of("catseg_lite")().eval(), torch.randn(1, 3, 64, 96)
    raw = builder_of("maskclip_lite")().eval()
    raw.encoder.load_state_dict(model.encoder.state_dict())
    texts = model.encode_texts([["dog"], ["sky"], ["road"]])
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(raw(image, texts), size=(16, 24), mode="bilinear")
        found = model(image, texts)
    factor = model.skip.gain / raw.encoder.logit_scale.exp()
    torch.testing.assert_close(found, factor * logits + model.skip.offset, rtol=1e-4, atol=1e-4)


def test_texts_that_do_not_take_part() -> None:
    cost = torch.rand(2, 5, 3, 4)
    logits = of_best_texts(lambda image, best: cost[image : image + 1, best], cost, 2)
    left_out = logits == LEFT_OUT
    assert (left_out.sum(dim=1) == 3).all()
    assert torch.equal(logits[~left_out], cost[~left_out])
    for image, of_image in enumerate(cost):
        assert not left_out[image, best_texts(of_image, 2)].any()
