"""FreeDA's online stage against recordings of the authors' code."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from lexiseg.encoders.checkpoints import load_clip
from lexiseg.encoders.dinov2_checkpoints import load_dinov2
from lexiseg.methods.freeda import (
    FreeDA,
    FreeDAConfig,
    Prototypes,
    Rule,
    freeda_protocols,
    freeda_rules,
)
from lexiseg.methods.freeda.model import TEMPLATES
from lexiseg.methods.freeda.regions import Superpixels, region_features
from lexiseg.methods.freeda.retrieval import ExactIndex, Retrieval, build_faiss
from lexiseg.methods.freeda.towers import CLIP_COLOURS, TwoTowers, normalised
from lexiseg.tiling import sliding_scores
from tests.parity import SOURCES, Case, cases

CLOSE = 1e-5
on_both_sources = pytest.mark.parametrize("source", SOURCES)


class Recorded(nn.Module):
    """Towers whose answers were recorded, one window after the other."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        self.next = 0

    def see(
        self, images: Float[Tensor, "B 3 H W"], *, squash: bool
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B E"]]:
        assert squash
        taken = slice(self.next, self.next + len(images))
        self.next += len(images)
        tokens = self.case.tensor("dino_tokens")[taken, 1:].float()
        return (
            rearrange(tokens, "B (h w) D -> B D h w", h=37),
            self.case.tensor("clip_image_features")[taken],
        )

    def read(self, prompts: Sequence[str]) -> Float[Tensor, "P E"]:
        raise NotImplementedError


def freeda(case: Case, **changes: object) -> FreeDA:
    return FreeDA(
        Recorded(case),
        FreeDAConfig(**changes),
        protocols=freeda_protocols(),
        rules={**freeda_rules(), "pixels": Rule(squash=True)},
    )


def window() -> Float[Tensor, "1 3 H W"]:
    photo = cases("freeda", "compact").open("superpixels.npz").tensor("image_rgb")
    return rearrange(photo, "H W C -> 1 C H W").float()


def texts(case: Case, prototypes: str = "prototypes", rule: str = "published") -> Prototypes:
    known = Prototypes(case.tensor("text_embeddings"), prototypes=case.tensor(prototypes))
    return replace(known, rule=rule)


def window_scores(case: Case, known: Prototypes, **changes: object) -> Float[Tensor, "1 T H W"]:
    return freeda(case, **changes)(window(), known).sigmoid()


@on_both_sources
def test_freeda_parity_window(source: str) -> None:
    case = cases("freeda", source).open("inference.npz")
    scores = window_scores(case, texts(case))
    case.check("w0_scores_sub", scores[..., ::4, ::4], absolute=CLOSE)
    case.check("w0_labels", scores[0].argmax(dim=0), absolute=0)
    local = window_scores(case, texts(case), local_weight=1.0)
    case.check("w0_local_sub", local[..., ::4, ::4], absolute=CLOSE)


@on_both_sources
def test_freeda_parity_regions(source: str) -> None:
    case = cases("freeda", source).open("inference.npz")
    photo = rearrange(window()[0], "C H W -> H W C").byte().numpy()
    regions = torch.from_numpy(Superpixels(pooling="published").of(photo).astype(np.int64))
    places = rearrange(case.tensor("dino_tokens")[0, 1:].float(), "(h w) D -> D h w", h=37)
    features = region_features(places, regions, "published")
    vanished = features.isnan().any(dim=1)
    assert vanished.float().mean() > 0.5  # the rule, not the exception
    case.check("w0_vanished", vanished.int(), absolute=0)
    directions = F.normalize(features, dim=1)
    likeness = directions @ F.normalize(case.tensor("prototypes")[:, 0], dim=1).T
    for key, values in (("region_features", directions), ("region_similarities", likeness)):
        thin = case.thin(f"w0_{key}", values.numpy())
        np.testing.assert_allclose(thin, case[f"w0_{key}"], atol=CLOSE)


@on_both_sources
def test_freeda_parity_options(source: str) -> None:
    case = cases("freeda", source).open("inference.npz")
    pixels = window_scores(case, texts(case, rule="pixels"))
    case.check("w0_no_superpixels_sub", pixels[..., ::8, ::8], absolute=CLOSE)
    several = texts(case, "prototypes_k")
    mixed = window_scores(case, several, max_weight=0.7)
    case.check("w0_k_maxmean07_sub", mixed[..., ::8, ::8], absolute=CLOSE)
    roots = window_scores(case, several, max_weight=0.7, mixing="geometric")
    thin = case.thin("w0_k_geometric07_sub", roots[..., ::8, ::8].numpy())
    np.testing.assert_allclose(thin, case["w0_k_geometric07_sub"], atol=CLOSE)
    refined = window_scores(case, texts(case), pamr=10)
    case.check("w0_pamr_scores_sub", refined[..., ::8, ::8], absolute=CLOSE)
    case.check("w0_pamr_labels", refined[0].argmax(dim=0), absolute=0)


@on_both_sources
def test_freeda_parity_clip_sees_the_overshoot(source: str) -> None:
    case = cases("freeda", source).open("inference.npz")
    square = F.interpolate(window(), size=(224, 224), mode="bicubic", align_corners=False)
    seen = normalised(square, CLIP_COLOURS)
    case.check("w0_clip_input_sub", seen[..., ::7, ::7], absolute=CLOSE)


def test_freeda_parity_windows_and_backgrounds() -> None:
    case = cases("freeda", "full").open("inference.npz")
    whole = rearrange(case.tensor("image_rgb"), "H W C -> 1 C H W").float()

    def scores(known: Prototypes) -> tuple[Tensor, Tensor]:
        model = freeda(case)
        way = model.protocols[known.rule]
        run = sliding_scores(
            lambda views: model(views, known), whole, way.tiling, activation="sigmoid"
        )
        return run, way.preprocess.restore(run[0], tuple(case["ori_shape"].tolist()))

    slid, full = scores(texts(case))
    case.check("slide_scores_sub", slid[..., ::8, ::8], absolute=CLOSE)
    case.check("rescaled_scores_sub", full[None, :, ::8, ::8], absolute=CLOSE)
    best = full.argmax(dim=0)
    np.testing.assert_array_equal(best, case["label_map"])
    base = torch.where(full.amax(dim=0) < float(case["bg_thresh"]), 0, best + 1)
    np.testing.assert_array_equal(base, case["label_map_bg"])
    for rule in ("only_dino", "after_ensemble"):
        bar = float(case["bg_thresh_dino"])
        _, full = scores(replace(texts(case, rule=f"published_{rule}"), background=bar))
        best = full.argmax(dim=0)  # the last map, of none, is the authors' first
        np.testing.assert_array_equal((best + 1) % 7, case[f"label_map_bg_{rule}"])


@pytest.mark.parametrize("kind", [None, "flat"])
def test_freeda_parity_retrieval(kind: str | None) -> None:
    case = cases("freeda", "full").open("retrieval.npz")
    queries, keys = case.tensor("text_embeddings"), case.tensor("keys")
    prototypes = case.tensor("prototypes")

    def search(rows: int = len(keys)) -> Retrieval:
        index = ExactIndex(keys[:rows]) if kind is None else build_faiss(keys[:rows], kind)
        return Retrieval(index, prototypes[:rows])

    found = search()
    similarities, rows = found.index.search(queries, 350)
    case.check("k350_similarities", similarities, absolute=CLOSE)
    for k in (8, 20):
        case.check(f"k{k}_indices", found.index.search(queries, k)[1], absolute=0)
    # Neighbours that are equal to seven digits may change places.
    assert (rows.sort().values.numpy() == np.sort(case["k350_indices"])).all()
    case.check("k350_prototypes", found(queries, k=350), absolute=CLOSE)
    case.check("k20_prototypes", found(queries, k=20), absolute=CLOSE)
    case.check("k8_each_prototypes", found(queries, k=8, each=True), absolute=CLOSE)
    for name in ("threshold", "threshold_high"):
        kept = found(queries, k=350, least_similarity=float(case[name]))
        case.check(f"{name}_prototypes", kept, absolute=CLOSE)
    case.check("first200_k350_prototypes", search(200)(queries, k=350), absolute=CLOSE)


@lru_cache(maxsize=1)
def towers() -> TwoTowers:
    """Both encoders, CLIP's matrices rounded to half precision as OpenAI's loader does it."""
    folder = cases("freeda", "full")
    state = folder.weights("manifest_clip_vitb16.json")
    kept = ("ln_", "embedding", "logit_scale")
    rounded = {
        key: value if any(part in key for part in kept) else value.half().float()
        for key, value in state.items()
    }
    dino = load_dinov2(folder.weights("manifest_dinov2_vitb14.json"))
    return TwoTowers(dino, load_clip(rounded)).eval()


@pytest.mark.slow
def test_freeda_parity_end_to_end() -> None:
    case = cases("freeda", "full").open("end_to_end_vitb.npz")
    whole = rearrange(case.tensor("image_rgb"), "H W C -> 1 C H W").float()
    model = FreeDA(towers(), protocols=freeda_protocols(), rules=freeda_rules())
    with torch.inference_mode():
        prompts = [template.format(n) for n in case["class_names"] for template in TEMPLATES]
        raw = rearrange(model.towers.read(prompts), "(T P) E -> T P E", P=len(TEMPLATES))
        features = F.normalize(raw.mean(dim=1), dim=-1)
        case.check("text_embeddings", features, absolute=CLOSE)
        known = Prototypes(features, prototypes=case.tensor("prototypes").float())
        known = replace(known, rule="published")
        places, image = model.towers.see(whole[..., :448], squash=True)
        np.testing.assert_allclose(image[0], case["clip_image_raw"][0], atol=1e-4)
        grid = rearrange(places[0], "D h w -> h w D")
        case.check("dino_w0_sub4", grid[::4, ::4], absolute=1e-4)
        way = model.protocols["published"]
        run = sliding_scores(
            lambda views: model(views, known), whole, way.tiling, activation="sigmoid"
        )
        full = way.preprocess.restore(run[0], tuple(case["ori_shape"].tolist()))
    case.check("scores_sub", full[None, :, ::8, ::8], absolute=CLOSE)
    np.testing.assert_array_equal(full.argmax(dim=0), case["label_map"])
