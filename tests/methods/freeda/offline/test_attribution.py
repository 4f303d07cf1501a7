import numpy as np
import pytest
import torch
from torch import Tensor

from lexiseg.methods.freeda.offline.attribution import (
    AttentionSums,
    attribution_mask,
    conditional_half,
    expand,
    latent_pixels,
    pool_mask,
    word_map,
    word_positions,
)
from lexiseg.methods.freeda.regions import Pooling
from tests.make_parity_cases import DAAM_PARTS
from tests.parity import SOURCES, Case, cases

STEPS, LAYERS, FINEST = 2, 4, 1


@pytest.fixture(params=SOURCES)
def case(request: pytest.FixtureRequest) -> Case:
    return cases("freeda", request.param).open("daam.npz")


def probabilities(case: Case, step: int, layer: int) -> Tensor:
    """What a layer gives out; where only eight rows of the finest are kept, nothing else."""
    queries = case.tensor(f"q_t{step}_l{layer}").float()
    keys = case.tensor(f"k_t{step}_l{layer}").float()
    given = (queries @ keys.mT / 6**0.5).softmax(dim=-1)
    if is_full(case):
        return conditional_half(given)
    if layer == FINEST:
        pixels = int(case["latent_side"]) ** 2 - given.shape[1]
        given = torch.cat([given, torch.zeros(len(given), pixels, given.shape[2])], dim=1)
    return given


def is_full(case: Case) -> bool:
    return "word2" in case


def part(case: Case, key: str, values: Tensor) -> np.ndarray:
    """What the recording holds of an array."""
    array = values.numpy()
    return array if is_full(case) else array[DAAM_PARTS.get(key, (slice(None),))]


def token_maps(case: Case) -> Tensor:
    sums = AttentionSums(int(case["latent_side"]) ** 2)
    for step in range(STEPS):
        for layer in range(LAYERS):
            if f"q_t{step}_l{layer}" in case:
                sums.add(layer, probabilities(case, step, layer))
    return sums.token_maps(len(case["tokens"]))


def test_daam_parity_token_maps(case: Case) -> None:
    maps = token_maps(case)
    assert maps.shape[0] == len(case["tokens"]) + 2
    np.testing.assert_allclose(part(case, "global", maps), case["global"], atol=1e-6)


def test_daam_parity_words(case: Case) -> None:
    tokens = case["tokens"].tolist()
    for i, word in enumerate(case["words"].tolist()):
        positions = word_positions(tokens, pieces(word))
        assert positions == [int(n) for n in str(case["word_token_indices"][i]).split(",")]
        if is_full(case):
            heat = word_map(case.tensor("global"), positions)
            case.check(f"word{i}", heat, absolute=1e-6)


def test_daam_parity_masks_and_prototypes(case: Case) -> None:
    features = case.tensor("dino_patch_grid").float()
    for i in range(3 if is_full(case) else 2):
        expanded = expand(case.tensor(f"word{i}"), (512, 512))
        case.check(f"word{i}_expanded_sub", expanded[::8, ::8], absolute=1e-5)
        for percent in (40, 50):
            mask = attribution_mask(expanded, percent / 100)
            recorded = np.unpackbits(case[f"word{i}_mask_{percent}"], axis=1).astype(bool)
            np.testing.assert_array_equal(mask.numpy(), recorded)
            prototype, _ = pool_mask(features, mask, "published")
            case.check(f"word{i}_prototype_{percent}", prototype, absolute=1e-5)


def pieces(word: str) -> list[str]:
    return {"skateboarder": ["skate", "boarder</w>"]}.get(word, [f"{word}</w>"])


def test_latents_are_those_that_daam_counts_with() -> None:
    assert [latent_pixels(side) for side in (512, 1024, 768, 256)] == [4096, 4096, 9216, 9216]


def test_the_mean_is_over_layers_and_heads_and_factor_eight_is_left_out() -> None:
    sums = AttentionSums(pixels=64 * 64)
    for _ in range(3):
        sums.add(0, torch.full((2, 64 * 64, 5), 1.0))
        sums.add(1, torch.full((1, 32 * 32, 5), 4.0))
        sums.add(2, torch.full((4, 8 * 8, 5), 100.0))
    maps = sums.token_maps(2)
    assert maps.shape == (4, 64, 64)
    torch.testing.assert_close(maps, torch.full((4, 64, 64), 3 * (1 + 1 + 4) / 3))


def test_nothing_recorded_and_no_square_are_told() -> None:
    with pytest.raises(ValueError, match="no cross-attention was recorded"):
        AttentionSums(4096).token_maps(3)
    with pytest.raises(ValueError, match="6 pixels .* square images only"):
        AttentionSums(4096).add(0, torch.ones(1, 6, 5))


def test_a_word_is_all_its_pieces_at_all_its_occurrences() -> None:
    tokens = ["skate", "boarder</w>", "and</w>", "skate</w>", "dog</w>"]
    assert word_positions(tokens, ["skate", "boarder</w>"]) == [1, 2]
    assert word_positions(tokens, ["skate</w>"]) == [1, 4]  # DAAM: a piece of a longer word too
    assert word_positions(tokens, ["skate</w>"], whole_words=True) == [4]
    assert word_positions(tokens, ["boarder</w>"]) == [2]
    with pytest.raises(ValueError, match="'boarder' is not in the caption"):
        word_positions(tokens, ["boarder</w>"], whole_words=True)
    with pytest.raises(ValueError, match="'cat' is not in the caption"):
        word_positions(tokens, ["cat</w>"])


def test_a_word_behind_the_cut_has_no_map() -> None:
    assert word_map(torch.ones(4, 2, 2), [1, 3]).shape == (2, 2)
    with pytest.raises(ValueError, match="the part of the caption that the text tower reads"):
        word_map(torch.ones(4, 2, 2), [4])


def test_expansion_goes_from_zero_to_one_and_keeps_the_sides_apart() -> None:
    heat = torch.tensor([[0.0, 1.0], [2.0, 4.0]])
    large = expand(heat, (6, 10))
    assert large.shape == (6, 10)
    assert float(large.min()) == 0
    assert float(large.max()) == pytest.approx(1)
    assert expand(torch.ones(2, 2), (4, 4)).isfinite().all()


@pytest.mark.parametrize("pooling", ["area", "published"])
def test_pooling_weighs_patches_and_knows_when_nothing_is_covered(pooling: Pooling) -> None:
    features = torch.arange(4.0).view(1, 2, 2)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, 4:] = True
    pooled, covered = pool_mask(features, mask, pooling)
    assert float(pooled[0]) == pytest.approx(2.0)  # the mean of 1 and 3
    assert covered == 2.0
    pooled, covered = pool_mask(features, torch.zeros(8, 8, dtype=torch.bool), pooling)
    assert (float(pooled[0]), covered) == (0.0, 0.0)


def test_area_pooling_finds_a_mask_between_the_points_of_the_grid() -> None:
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[3:5, 3:5] = True
    features = torch.ones(2, 2, 2)
    assert pool_mask(features, mask, "published")[1] == 0
    assert pool_mask(features, mask, "area")[1] > 0
