"""What is off by default, and what the model tells about its way."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
import torch.nn.functional as F

from lexiseg.methods.escnet.boundary import BoundaryRefinement
from tests.methods import contract
from tests.methods.escnet.test_model import FUSIONS, inputs, make, run

THREE = {"blocks": 3}


def test_both_options_are_off_by_default() -> None:
    model = contract.tiny_escnet()
    assert model.adaptive_depth is None
    assert model.rounds.boundary is None


@FUSIONS
def test_no_change_is_small_enough_at_depth_zero_and_all_are_beyond_any(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion, **THREE)
    images, texts = inputs(model)
    full = run(model, images, texts)
    model.adaptive_depth = 0.0
    assert torch.equal(run(model, images, texts), full)
    model.adaptive_depth = 1e9  # the second block is left out
    shallow = run(model, images, texts)
    assert (shallow - full).abs().max() > 1e-3
    del model.rounds.blocks[1]
    model.adaptive_depth = None
    torch.testing.assert_close(run(model, images, texts), shallow)


@FUSIONS
def test_each_image_has_its_own_depth(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion, **THREE)
    images, texts = inputs(model)
    images[1] *= 0.1
    views = model.explain(images, texts).blocks
    change = (views[0].leaving - views[0].entering).abs().mean(dim=(2, 3)).amax(dim=1)
    model.adaptive_depth = change.mean().item()
    views = model.explain(images, texts).blocks
    second = (views[1].leaving - views[1].entering).abs().amax(dim=(1, 2, 3)) > 0
    if class_fusion == "mean":
        assert second.tolist() == (change > change.mean()).tolist()
        assert second.sum() == 1
    alone = torch.cat([run(model, image[None], texts) for image in images])
    torch.testing.assert_close(run(model, images, texts), alone)
    model.class_chunk = 3
    torch.testing.assert_close(run(model, images, texts), alone)


def test_boundary_refinement_begins_as_enlargement() -> None:
    torch.manual_seed(0)
    refinement = BoundaryRefinement(width=4)
    logits, images = torch.randn(2, 3, 8, 12), torch.randn(2, 3, 64, 96)
    of_pixels = refinement.project_pixels(images, (16, 24))
    enlarged = F.interpolate(logits, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(refinement(logits, of_pixels), enlarged)


def test_boundary_refinement_learns_edges_that_the_logits_do_not_have() -> None:
    """Coarse logits cannot tell where in a cell a colour begins; the pixels can."""
    torch.manual_seed(0)
    refinement = BoundaryRefinement(width=8)

    def picture() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        edges = torch.randint(6, 26, (8,))
        mask = (torch.arange(32)[None] >= edges[:, None]).float()
        mask = mask[:, None, None, :].expand(-1, 1, 32, -1)
        images = (2 * mask - 1).expand(-1, 3, -1, -1) + 0.1 * torch.randn(8, 3, 32, 32)
        return images, mask, 4 * F.avg_pool2d(mask, 2) - 2 + torch.randn(8, 1, 1, 1)

    optimiser = torch.optim.Adam(refinement.parameters(), lr=1e-2)
    for _ in range(100):
        images, mask, logits = picture()
        found = refinement(logits, refinement.project_pixels(images, (32, 32)))
        loss = F.binary_cross_entropy_with_logits(found, mask)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    images, mask, logits = picture()
    with torch.no_grad():
        found = refinement(logits, refinement.project_pixels(images, (32, 32)))
    plain = F.interpolate(logits, scale_factor=2, mode="bilinear")
    wrong, wrong_plain = (((each > 0) != mask.bool()).float().mean() for each in (found, plain))
    assert wrong < 0.2 * wrong_plain


def test_boundary_refinement_doubles_the_grid() -> None:
    plain, fine = make(), make(boundary_refinement=True)
    images, texts = inputs(plain)
    assert run(plain, images, texts).shape[-2:] == (32, 48)
    assert run(fine, images, texts).shape[-2:] == (64, 96)
    names = {name.split(".")[1] for name in fine.state_dict() if name not in plain.state_dict()}
    assert names == {"boundary"}


@FUSIONS
def test_an_explanation_is_the_way_of_the_model(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion, **THREE)
    model.class_chunk = 4
    images, texts = inputs(model)
    explanation = model.explain(images, texts)
    torch.testing.assert_close(explanation.logits, run(model, images, texts))
    assert len(explanation.blocks) == 3
    patches = F.normalize(model.encoder.encode_images(images).patch_features, dim=1)
    cosines = torch.einsum("bdhw,td->bthw", patches, texts.features)
    torch.testing.assert_close(explanation.correlation, cosines)
    for before, after in zip(explanation.blocks, explanation.blocks[1:], strict=False):
        assert torch.equal(before.leaving, after.entering)
    for index, view in enumerate(explanation.blocks):
        expected = model.rounds.blocks[index].generate(view.entering)
        assert torch.equal(view.prompts.points, expected.points)
        assert torch.equal(view.prompts.masks, expected.masks)
        assert view.without_sam.shape == view.leaving.shape
        assert (view.without_sam - view.leaving).abs().max() > 1e-4
    with pytest.raises(FrozenInstanceError):
        explanation.blocks = ()


def test_without_sam_is_without_valid_prompts() -> None:
    model = make(blocks=1)
    images, texts = inputs(model)
    (view,) = model.explain(images, texts).blocks
    model.rounds.blocks[0].ratio = 1e9
    torch.testing.assert_close(run(model, images, texts), view.without_sam)


def test_nothing_is_kept_between_calls() -> None:
    model = make()
    before = {name: set(vars(part)) for name, part in model.named_modules()}
    images, texts = inputs(model)
    model.explain(images, replace(texts, at_most=2))
    run(model, images, texts)
    assert {name: set(vars(part)) for name, part in model.named_modules()} == before
