"""What must hold of the whole model, in double precision, on a small random one."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lexiseg.methods.base import Texts
from lexiseg.methods.escnet import ESCNet, ESCNetConfig
from lexiseg.registry import builder_of
from tests.methods import contract
from tests.methods.catseg.test_model import Pyramid, random_texts

TEXTS = 7
STRIDE_TWO = replace(
    contract.TINY_ESCNET, guidance_widths=(10, 6), cost_stride=2, intermediates=(0, 1)
)


def make(model: ESCNet | None = None, **changes: object) -> ESCNet:
    torch.manual_seed(0)
    model = model or contract.tiny_escnet(replace(contract.TINY_ESCNET, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        # So that the cosines of random features have prompts, and fewer than all cells.
        model.encoder.visual.norm_post.weight.mul_(3)
    return model.double().eval()


def make_stride_two() -> ESCNet:
    torch.manual_seed(0)
    protocols = contract.tiny_escnet().protocols
    return ESCNet(Pyramid(), STRIDE_TWO, protocols=protocols).double().eval()


def inputs(model: ESCNet, batch: int = 2, texts: int = TEXTS) -> tuple[torch.Tensor, Texts]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(batch, 3, 64, 96, generator=generator, dtype=torch.float64)
    torch.manual_seed(4)
    return images, Texts(random_texts(texts, model.encoder.dim).features.double())


def run(model: ESCNet, images: torch.Tensor, texts: Texts) -> torch.Tensor:
    with torch.no_grad():
        return model(images, texts)


FUSIONS = pytest.mark.parametrize("class_fusion", ["mean", "none"])


@FUSIONS
def test_there_are_prompts_in_these_tests(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion)
    for view in model.explain(*inputs(model)).blocks:
        assert 0.5 < view.prompts.valid.double().mean() <= 1


@FUSIONS
@pytest.mark.parametrize("training", [False, True])
def test_order_is_only_an_order(class_fusion: str, training: bool) -> None:
    model = make(class_fusion=class_fusion).train(training)
    images, texts = inputs(model)
    logits, order = run(model, images, texts), torch.randperm(TEXTS)
    shuffled = run(model, images, Texts(texts.features[order]))
    torch.testing.assert_close(shuffled, logits[:, order], rtol=1e-6, atol=1e-9)
    turned = run(model, images.flip(0), texts)
    torch.testing.assert_close(turned, logits.flip(0), rtol=1e-6, atol=1e-9)
    alone = torch.cat([run(model, image[None], texts) for image in images])
    torch.testing.assert_close(alone, logits, rtol=1e-6, atol=1e-9)


@FUSIONS
@pytest.mark.parametrize("chunk", [1, 3, 7])
@pytest.mark.parametrize("training", [False, True])
def test_chunks_change_nothing(class_fusion: str, chunk: int, training: bool) -> None:
    model = make(class_fusion=class_fusion, boundary_refinement=True).train(training)
    images, texts = inputs(model)
    results = []
    for each in (None, chunk):
        model.class_chunk = each
        model.zero_grad()
        logits = model(images, texts)
        logits.square().mean().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((logits.detach(), gradients))
    (whole, expected), (chunked, found) = results
    torch.testing.assert_close(chunked, whole, rtol=1e-6, atol=1e-9)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-6 * scale + 1e-12)


@FUSIONS
def test_chunks_in_single_precision(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion).float()
    images, texts = inputs(model)
    images, texts = images.float(), Texts(texts.features.float())
    whole = run(model, images, texts)
    model.class_chunk = 2
    torch.testing.assert_close(run(model, images, texts), whole, rtol=1e-4, atol=1e-4)


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor holds that is made meanwhile."""

    numbers = 0

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.untyped_storage().nbytes() // each.itemsize)
        return result


@FUSIONS
def test_memory_of_a_chunk_does_not_grow_with_the_texts(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion).float()
    model.class_chunk = 8
    found = {}
    for texts in (1, 100, 847):
        images = torch.randn(1, 3, 32, 32)
        of_texts = random_texts(texts, model.encoder.dim)
        with Largest() as largest:
            logits = run(model, images, of_texts)
        assert logits.shape == (1, texts, 16, 16)
        assert torch.isfinite(logits).all()
        found[texts] = largest.numbers
    # The logits and the sums' factors alone grow with the texts.
    assert found[847] <= max(found[100], 847 * 16 * 16)


@FUSIONS
def test_one_text_and_equal_texts(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion)
    images, texts = inputs(model)
    assert run(model, images, Texts(texts.features[:1])).shape[1] == 1
    twice = run(model, images, Texts(texts.features[[0, 1, 0]]))
    torch.testing.assert_close(twice[:, 0], twice[:, 2])


def test_one_text_is_the_same_in_both_fusions() -> None:
    model = make(class_fusion="mean")
    other = make(class_fusion="none")
    other.load_state_dict(model.state_dict())
    images, texts = inputs(model)
    one = Texts(texts.features[:1])
    torch.testing.assert_close(run(other, images, one), run(model, images, one))
    assert (run(other, images, texts) - run(model, images, texts)).abs().max() > 1e-4


@FUSIONS
def test_a_constant_image_is_finite(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion).float()
    texts = random_texts(3, model.encoder.dim)
    assert torch.isfinite(run(model, torch.full((1, 3, 64, 40), 0.5), texts)).all()


@pytest.mark.parametrize("size", [(64, 64), (72, 40), (104, 48), (8, 8)])
def test_an_encoder_of_stride_8_is_worked_on_at_16(size: tuple[int, int]) -> None:
    model = make_stride_two()
    texts = Texts(random_texts(3, dim=12).features.double())
    logits = run(model, torch.randn(2, 3, *size, dtype=torch.float64), texts)
    assert logits.shape == (2, 3, *(4 * -(-side // 16) for side in size))


def test_prompts_change_the_logits() -> None:
    model = make()
    images, texts = inputs(model)
    with_prompts = run(model, images, texts)
    for block in model.rounds.blocks:
        block.ratio = 1e9
    assert (run(model, images, texts) - with_prompts).abs().max() > 1e-3


def test_whatever_is_trained_gets_a_gradient() -> None:
    model = make(boundary_refinement=True)
    images, _ = inputs(model)
    texts = model.encode_texts([["a cat"], ["a dog"], ["sky"]])
    model(images, texts).square().mean().backward()
    without = {
        name
        for name, parameter in model.rounds.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    }
    # What no prompt of ours is; keys' biases, which a softmax does not see; no map without prompt.
    assert all(
        name.endswith((".k.bias", ".no_mask.weight", ".not_a_point.weight"))
        or ".prompts.kinds." in name
        for name in without
    ), without
    used = {name.split(".")[4] for name in without if ".prompts.kinds." in name}
    assert "1" not in {name.split(".kinds.")[1][0] for name in without if ".kinds." in name}, used
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    for tower in (model.encoder.visual, model.encoder.text):
        attention = tower.blocks[0].attention
        for weight in (attention.q_proj_weight, attention.v_proj_weight):
            assert weight.grad.abs().max() > 0


def test_a_seed_repeats_training() -> None:
    def train() -> torch.Tensor:
        model = make().train()
        model.class_chunk = 3
        images, texts = inputs(model)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(3):
            optimiser.zero_grad()
            model(images, texts).square().mean().backward()
            optimiser.step()
        return run(model, images, texts)

    assert torch.equal(train(), train())


@FUSIONS
def test_texts_that_fit_best_take_part(class_fusion: str) -> None:
    model = make(class_fusion=class_fusion)
    images, texts = inputs(model)
    logits = run(model, images, replace(texts, at_most=3))
    cosines = model.explain(images, texts).correlation
    for index in range(2):
        kept = cosines[index].amax(dim=(1, 2)).topk(3).indices.sort().values
        assert (logits[index] > -100).any(dim=(1, 2)).nonzero()[:, 0].tolist() == kept.tolist()
        alone = run(model, images[index : index + 1], Texts(texts.features[kept]))
        torch.testing.assert_close(logits[index, kept], alone[0])


def test_variants() -> None:
    with torch.device("meta"):
        models = [builder_of(f"escnet_{name}")() for name in ("vitb16", "vitl14", "lite")]
        fused = builder_of("escnet_vitb16")(class_fusion="none")
    base, large, lite = models
    assert large.config == replace(base.config, intermediates=(7, 15), guidance_widths=(1024, 1024))
    assert fused.config.class_fusion == "none"
    head = sum(p.numel() for n, p in lite.named_parameters() if not n.startswith("encoder."))
    assert 2 * head <= 6e6
    layers = base.rounds.blocks[0].sam.layers
    assert 4 * sum(p.numel() for p in layers.parameters()) == pytest.approx(12.6e6, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediates": (3, 5, 7)}, "one number for each decoder stage"),
        ({"heads": 3}, "hidden 128 cannot be split into 3 heads"),
        ({"blocks": 0}, "blocks 0 and clusters 5 came"),
        ({"class_fusion": "max"}, "unknown class_fusion 'max'; choose one of mean, none"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ESCNetConfig(**changes)
