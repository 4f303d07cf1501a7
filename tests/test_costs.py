"""What must not become more costly: counted work, tensors and calls; never seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lexiseg.superpixels
from lexiseg.encoders.clip_text import TextTransformer
from lexiseg.encoders.tokenizer import tokenize
from lexiseg.layers.blocks import TransformerBlock
from lexiseg.layers.decoder import Decoder
from lexiseg.layers.linear import LEAST_ROWS
from lexiseg.methods.base import SegmentationModel
from lexiseg.methods.catseg.classes import ClassAggregation
from lexiseg.methods.cris.projector import convolve_doubled, doubled
from lexiseg.methods.freeda.regions import Superpixels, region_features
from lexiseg.segmenter import Segmenter
from lexiseg.tools.bench import flops
from tests.methods import contract


class Tensors(TorchDispatchMode):
    """Remembers the largest tensor that is made, and how often each operation ran."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [each.numel() for each in tree_leaves(made) if isinstance(each, Tensor)]
        self.largest = max([self.largest, *sizes])
        name = func.overloadpacket.__name__
        self.calls[name] = self.calls.get(name, 0) + 1
        return made


def counted(run: Callable[[], Any]) -> Tensors:
    with torch.no_grad(), Tensors() as found:
        run()
    return found


def model(name: str) -> SegmentationModel:
    return contract.make(name).eval().requires_grad_(False)


def prompts(count: int) -> list[list[str]]:
    return [[f"thing {number}"] for number in range(count)]


def image(side: int = 64) -> Float[Tensor, "1 3 H W"]:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def work(found: SegmentationModel, texts: int, side: int = 64) -> float:
    """Of one image with labels that are encoded already."""
    known = found.encode_texts(prompts(texts))
    return flops(lambda: found(image(side), known))


def test_short_prompts_are_not_padded() -> None:
    tower = TextTransformer(
        context_length=77, vocabulary=49408, width=32, layers=2, heads=2, dim=16
    ).requires_grad_(False)
    short = tokenize(["a photo of a dog", "a photo of a polar bear"], context_length=77)
    long = tokenize(["a photo of " + 72 * "a ", "a photo of a dog"], context_length=77)
    assert flops(lambda: tower(long)) > 5 * flops(lambda: tower(short))


def test_labels_are_encoded_once() -> None:
    segmenter = Segmenter(model("catseg_vitb16"), device="cpu")
    photo = np.zeros((32, 32, 3), np.uint8)
    first, second, third = (flops(lambda: segmenter(photo, "cat, dog")) for _ in range(3))
    assert first > second == third


@pytest.mark.parametrize("name", ["cris_r50", "segclip_vitb16", "maskclip_vitb16"])
def test_an_image_is_looked_at_once_for_all_texts(name: str) -> None:
    found = model(name)
    one, two, five = (work(found, texts) for texts in (1, 2, 5))
    each = two - one
    assert five - one == pytest.approx(4 * each, rel=1e-6)
    assert one - each > 0  # what no text takes part in


def test_a_region_is_classified_without_another_look() -> None:
    found = model("segclip_vitb16")
    assert work(found, 40) < 1.1 * work(found, 2)


def test_padding_tokens_cost_nothing() -> None:
    """All padding is one term times its number: 2 texts are not 256."""
    layer = ClassAggregation(hidden=16, heads=2, padding_length=256)
    maps, guidance = torch.rand(1, 4, 6, 6, 16), torch.rand(4, 16)
    two, four = (flops(lambda n=n: layer(maps[:, :n], guidance[:n])) for n in (2, 4))
    assert four == pytest.approx(2 * two, rel=0.01)


def test_tensors_of_a_chunk_do_not_grow_with_the_texts() -> None:
    """All that lies there for every text is one map of each, its embedded cost."""
    decoder = Decoder(hidden=16, guidance_maps=(8, 4), guidance_projected=(4, 4), widths=(16, 16))
    guidance = [torch.rand(1, 8, 8, 8), torch.rand(1, 4, 16, 16)]

    def largest(texts: int, chunk: int | None) -> int:
        x = torch.rand(1, texts, 4, 4, 16)
        return counted(lambda: decoder(x, guidance, class_chunk=chunk)).largest

    assert largest(12, 4) == largest(4, None)
    assert largest(12, None) == 3 * largest(12, 4)


def test_chunks_of_cat_seg_hold_little_beside_the_embedded_cost() -> None:
    found = model("catseg_vitb16")
    found.class_chunk = 2
    many = found.encode_texts(prompts(100))
    hidden, cells = 16, 4 * 4  # of an image of 32 x 32 pixels
    assert counted(lambda: found(image(32), many)).largest <= 100 * hidden * cells


@torch.no_grad()
def test_convolving_a_doubled_map_costs_a_third() -> None:
    with torch.device("meta"):
        x, weight = torch.empty(1, 64, 26, 26), torch.empty(64, 64, 3, 3)
    plain = flops(lambda: torch.conv2d(doubled(x), weight, padding=1))
    wide = flops(lambda: convolve_doubled(x, weight))
    assert wide < 0.6 * plain  # of 64 channels, beside which the small matrices are large
    with torch.device("meta"):
        x, weight = torch.empty(1, 512, 26, 26), torch.empty(512, 512, 3, 3)
    plain = flops(lambda: torch.conv2d(doubled(x), weight, padding=1))
    assert flops(lambda: convolve_doubled(x, weight)) < plain / 3


def test_large_products_go_where_they_are_fast() -> None:
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        pytest.skip("this PyTorch multiplies without MKL")
    block = TransformerBlock(64, 2, "quick_gelu")
    tokens = torch.rand(1, LEAST_ROWS, 64)
    calls = counted(lambda: block(tokens)).calls
    assert calls["convolution"] >= 6  # queries, keys, values, what leaves them, and the MLP's two
    assert "addmm" not in calls
    assert "convolution" not in counted(lambda: block(tokens[:, :8])).calls


def test_no_region_has_a_mask_of_pixels() -> None:
    side, count = 48, 144
    numbers = torch.arange(side) // 4
    regions = (12 * numbers[:, None] + numbers).long()
    places = torch.rand(8, 6, 6)
    assert int(regions.max()) + 1 == count
    assert counted(lambda: region_features(places, regions)).largest < count * side * side / 10


def test_superpixels_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    photo = np.zeros((32, 32, 3), np.uint8)
    photo[:, 16:] = 200
    first = Superpixels().of(photo, cache=tmp_path)
    monkeypatch.setattr(lexiseg.superpixels, "superpixels", None)  # calling it again would fail
    np.testing.assert_array_equal(Superpixels().of(photo, cache=tmp_path), first)
