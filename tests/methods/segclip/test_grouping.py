"""The group module, its losses and the masked reconstruction, worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from lexiseg.methods.segclip.grouping import GroupingModule, Groups, assign, gumbel_noise
from lexiseg.methods.segclip.objectives import (
    contrastive_loss,
    published_superpixel_loss,
    reconstruction_loss,
    superpixel_loss,
    superpixel_means,
)
from lexiseg.methods.segclip.reconstruction import (
    MaskedDecoder,
    Reconstruction,
    hide,
    pixels_of_patches,
    reset_as_published,
    sine_positions,
)


def module(groups: int = 3) -> GroupingModule:
    torch.manual_seed(0)
    made = GroupingModule(groups=groups, dim=16, heads=4)
    with torch.no_grad():
        made.centres.mul_(50)
    return made


def test_each_patch_goes_to_one_centre() -> None:
    groups = module()(torch.randn(2, 10, 16))
    assert groups.regions.shape == (2, 3, 16)
    hard = groups.assignment.detach()
    torch.testing.assert_close(hard.sum(dim=1), torch.ones(2, 10))
    assert torch.equal(hard.argmax(dim=1), groups.soft.argmax(dim=1))
    torch.testing.assert_close(groups.soft.sum(dim=1), torch.ones(2, 10))


def test_a_region_without_patches_is_its_centre_alone() -> None:
    made, centres = module(), torch.randn(1, 3, 16)
    nothing = torch.zeros(1, 3, 4)
    values = torch.randn(1, 4, 16)
    alone = made.pool(centres, values, nothing)
    expected = made.activation(made.mlp(made.norm_regions(centres)))
    torch.testing.assert_close(alone, expected)
    nothing[0, 1, :2] = 1
    mean = values[:, :2].mean(dim=1)
    one = made.activation(made.mlp(made.norm_regions(centres[:, 1] + mean)))
    torch.testing.assert_close(made.pool(centres, values, nothing)[:, 1], one)


def test_the_gradient_is_that_of_the_softmax() -> None:
    logits = torch.tensor([[[0.2], [0.1], [-1.0]]], requires_grad=True)
    noise = torch.tensor([[[0.0], [0.5], [0.0]]])
    weights = torch.tensor([[[1.0], [2.0], [4.0]]])
    (assign(logits, noise) * weights).sum().backward()
    found = logits.grad
    other = logits.detach().clone().requires_grad_()
    (((other + noise) / 0.9).softmax(dim=1) * weights).sum().backward()
    torch.testing.assert_close(found, other.grad)
    assert assign(logits, noise).detach().flatten().round().tolist() == [0, 1, 0]


def test_gumbel_noise_has_its_mean_and_its_seed() -> None:
    noise = gumbel_noise((20000,), torch.Generator().manual_seed(0))
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.03)
    assert float(noise.std()) == pytest.approx(math.pi / 6**0.5, abs=0.03)
    assert torch.equal(noise, gumbel_noise((20000,), torch.Generator().manual_seed(0)))


def test_mixed_keys_change_a_batch_but_not_a_single_image() -> None:
    made, patches = module(), torch.randn(3, 7, 16)
    one = made.gather(patches[:1])
    torch.testing.assert_close(made.gather(patches[:1], mix_batch=True), one)
    assert not torch.allclose(made.gather(patches, mix_batch=True), made.gather(patches))
    torch.testing.assert_close(made.gather(patches)[:1], one, atol=1e-5, rtol=1e-5)


def test_mixed_keys_are_every_third_token() -> None:
    """Image 1 of 3 sees the flat positions 1, 4, 7 ...: with equal tokens there, nothing else."""
    made = module()
    queries, patches = made.centres.expand(3, -1, -1), torch.randn(3, 7, 16)
    flat = torch.cat([queries, patches], dim=1).reshape(-1, 16)
    layer = made.layers[0]
    expected = layer.attention(
        layer.norm_queries(queries[1:2]), layer.norm_context(flat[None, 1::3])
    )
    middle = queries[1:2] + expected
    middle = middle + layer.mlp(layer.norm_mlp(middle))
    found = layer(queries, patches, mix_batch=True)[1:2]
    torch.testing.assert_close(found, middle, atol=1e-5, rtol=1e-5)


def test_a_text_that_fits_too_is_left_out() -> None:
    features = torch.eye(3)
    loss = contrastive_loss(features, features, torch.tensor(2.0))
    assert float(loss) == pytest.approx(math.log(math.e**2 + 2) - 2, rel=1e-5)
    left_out = torch.zeros(3, 3, dtype=torch.bool)
    left_out[0, 1:] = True
    fewer = contrastive_loss(features, features, torch.tensor(2.0), left_out=left_out)
    assert float(fewer) < float(loss)


def test_other_processes_are_told_apart() -> None:
    torch.manual_seed(0)
    images, texts = (torch.nn.functional.normalize(torch.randn(4, 5), dim=1) for _ in range(2))
    whole = contrastive_loss(images, texts, torch.tensor(3.0))
    halves = [
        contrastive_loss(
            images[first : first + 2],
            texts[first : first + 2],
            torch.tensor(3.0),
            all_images=images,
            all_texts=texts,
            first=first,
        )
        for first in (0, 2)
    ]
    torch.testing.assert_close(torch.stack(halves).mean(), whole)


def test_means_of_superpixels() -> None:
    shares = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    means = superpixel_means(shares, torch.tensor([[7, 7, 2]]))
    assert means[0].tolist() == [[0.5, 0.5], [0.5, 0.5], [0.0, 1.0]]


def test_one_group_a_superpixel_costs_nothing() -> None:
    ids = torch.tensor([[0, 0, 5]])
    hard = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    assert float(published_superpixel_loss(hard, ids)) == pytest.approx(0, abs=1e-7)
    torn = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])
    assert 0 < float(published_superpixel_loss(torn, ids)) < 0.1
    assert float(superpixel_loss(20 * hard, ids)) == pytest.approx(0, abs=1e-4)
    assert float(superpixel_loss(20 * torn, ids)) > 1


def test_hidden_patches() -> None:
    hiding = hide(torch.tensor([[0.9, 0.1, 0.5, 0.2, 0.8, 0.3, 0.7, 0.6]]))
    assert hiding.kept == 1
    assert hiding.visible.tolist() == [[1]]
    assert hiding.hidden.tolist() == [[True, False, *[True] * 6]]
    assert hide(torch.rand(1, 196)).kept == 48


def test_only_hidden_patches_count() -> None:
    hidden = torch.tensor([[True, False]])
    predicted = torch.tensor([[[1.0, 1.0], [9.0, 9.0]]])
    assert float(reconstruction_loss(predicted, torch.zeros(1, 2, 2), hidden)) == 1


def test_pixels_row_by_row_with_their_colours() -> None:
    images = torch.arange(2 * 4 * 3).reshape(2, 4, 3).permute(2, 0, 1)[None].float()
    patches = pixels_of_patches(images, 2)
    assert patches.shape == (1, 2, 12)
    assert patches[0, 0, :6].tolist() == [0, 1, 2, 3, 4, 5]
    assert patches[0, 0, 6:].tolist() == [12, 13, 14, 15, 16, 17]


def rebuild(reconstruction: Reconstruction, hiding_noise: Tensor) -> Tensor:
    hiding = hide(hiding_noise, kept=0.6)
    made = torch.randn(1, 3, hiding.kept, generator=torch.Generator().manual_seed(1))
    groups = Groups(torch.ones(1, 3, 16), made, assign(made), torch.ones(1, 3, 16))
    return reconstruction(groups, hiding, (2, 3))


def test_reconstruction_of_any_grid() -> None:
    torch.manual_seed(0)
    decoder = MaskedDecoder(dim=16, width=8, heads=2, layers=1, shown=12)
    reconstruction = Reconstruction(groups=3, dim=16, heads=2, blocks=1, decoder=decoder)
    predicted = rebuild(reconstruction, torch.rand(1, 6))
    assert predicted.shape == (1, 6, 12)
    assert predicted.isfinite().all()


def test_positions_are_column_then_row() -> None:
    table = sine_positions((2, 3), 8)
    assert table[0].abs().sum() == 0
    row = table[1:].reshape(2, 3, 8)[1, 2]
    expected = [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]
    expected += [math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01)]
    torch.testing.assert_close(row, torch.tensor(expected))


def test_the_published_reset_undoes_xavier() -> None:
    torch.manual_seed(0)
    decoder = MaskedDecoder(dim=400, width=400, heads=2, layers=1, shown=400)
    bound = math.sqrt(6 / 800)
    assert float(decoder.embedding.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    reset_as_published(decoder)
    for weight in (decoder.embedding.weight, decoder.blocks[0].attention.q_proj_weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
