"""FreeDA as a whole: texts become prototypes, places are compared with them, views are combined.

Letters beyond the library's: P prototypes a text, D or C channels of a place, E of the text space.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from lexiseg.encoders.base import flatten_prompts
from lexiseg.encoders.clip import clip_vitb16, clip_vitl14
from lexiseg.encoders.dinov2 import VITB14, VITL14, DINOv2
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import LITE_WEAK_WEIGHTS, read_encoder
from lexiseg.images import Preprocess
from lexiseg.layers.maps import in_chunks
from lexiseg.layers.pamr import pixel_affinity, refine
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts, Tiling
from lexiseg.methods.freeda.bank import PrototypeBank
from lexiseg.methods.freeda.checkpoints import initialise
from lexiseg.methods.freeda.reading import OpenCVPreprocess
from lexiseg.methods.freeda.regions import Superpixels, region_features
from lexiseg.methods.freeda.retrieval import Retrieval
from lexiseg.methods.freeda.similarity import (
    Cosines,
    Mixing,
    Regions,
    local_scores,
    prototype_cosines,
)
from lexiseg.methods.freeda.towers import OneTower, Towers, TwoTowers
from lexiseg.registry import register_model
from lexiseg.weights import KeyFate, Source, Weights, fetch, read_weights

# Raw embeddings of these are averaged, as published.
TEMPLATES = (
    *("itap of a {}.", "a bad photo of a {}.", "a origami {}.", "a photo of the large {}."),
    *("a {} in a video game.", "art of the {}.", "a photo of the small {}."),
)
CLASS_CHUNK = 16  # bounds the memory: 0.8 MB a text at 448 x 448 pixels, a few times
PAMR_CHUNK = 30  # published
MARGIN = 1e-6  # scores are kept so far from 0 and 1, where a logit would be infinite

NoneRule = Literal["only_dino", "after_ensemble"]


@dataclass(frozen=True)
class FreeDAConfig:
    """Choices of the method; the defaults are those of all published configurations.

    Attributes:
        k: keys that are retrieved for a text.
        least_similarity: of a key that counts, but for the best one; None for no limit.
        each: keep every retrieved prototype; by default their mean is the only one.
        max_weight: w, 0 to 1, where there are several: w x largest + (1 - w) x mean cosine.
        mixing: "geometric" for largest^w x mean^(1 - w) of regions, NaN at a negative cosine.
        local_weight: part of the local score, 0 to 1; the rest is the view's as a whole.
        gain: factor of a local cosine before the sigmoid; ours.
        pamr: iterations of the pixel-adaptive refinement; published number is 10, and it is off.
    """

    k: int = 350
    least_similarity: float | None = None
    each: bool = False
    max_weight: float = 1.0
    mixing: Mixing = "weighted"
    local_weight: float = 0.8
    gain: float = 1.0
    pamr: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.max_weight <= 1 and 0 <= self.local_weight <= 1):
            raise ValueError(
                f"max_weight {self.max_weight} and local_weight {self.local_weight}; both are "
                "from 0 to 1"
            )
        if self.k < 1 or self.pamr < 0 or self.mixing not in ("weighted", "geometric"):
            raise ValueError(
                f"k {self.k}, pamr {self.pamr}, mixing {self.mixing!r}; k is at least 1, pamr at "
                "least 0, and mixing 'weighted' or 'geometric'"
            )


@dataclass(frozen=True)
class Rule:
    """One of the ways to make scores of a view.

    Attributes:
        superpixels: how it is cut into regions; None where each pixel stands for itself.
        squash: the encoder of places sees a square, whatever the view's shape.
        none_rule: where the texts' ``background`` is set, which pixels are none of them: those
            whose best local score is below it ("only_dino"), or whose local score of the text that
            wins in the end is ("after_ensemble").
    """

    superpixels: Superpixels | None = None
    squash: bool = False
    none_rule: NoneRule = "only_dino"


@dataclass(frozen=True)
class Prototypes(Texts):
    """Texts and what they look like.

    Attributes:
        prototypes: of each text, not normalised.
    """

    prototypes: Float[Tensor, "T P C"] = field(default_factory=lambda: torch.zeros(0, 1, 1))


class FreeDA(SegmentationModel):
    """Training-free open-vocabulary segmentation by prototypes (Barsellotti et al., CVPR 2024).

    Images are RGB from 0 to 255: superpixels are cut from them, and each encoder has its own mean.
    Scores lie between 0 and 1 by themselves; the logits are what a sigmoid turns into them.

    Args:
        towers: the encoders; a module.
        config: choices of the method.
        protocols: ways to prepare an image; a protocol's ``rule`` is the name of one of ``rules``.
        rules: ways to make scores by name; "" always.
        bank: prototypes, or a search in them; may be set later.
        templates: sentences into which a label is put.
        class_chunk: texts painted at a time; None for all. The result is the same.
        cache: a folder where superpixels are kept; None computes them each time.
    """

    activation: ClassVar[Activation] = "sigmoid"
    exclusive: ClassVar[bool] = True

    def __init__(
        self,
        towers: Towers,
        config: FreeDAConfig | None = None,
        *,
        protocols: Mapping[str, Protocol],
        rules: Mapping[str, Rule],
        bank: PrototypeBank | Retrieval | None = None,
        templates: Sequence[str] = TEMPLATES,
        class_chunk: int | None = CLASS_CHUNK,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.config = config or FreeDAConfig()
        self.towers = towers
        self.parts = (*(("lite",) if isinstance(towers, OneTower) else ("dino", "clip")), "bank")
        self.protocols = protocols
        self.rules = rules
        self.bank = bank
        self.templates = tuple(templates)
        self.class_chunk = class_chunk
        self.cache = cache
        self.key_fates: tuple[KeyFate, ...] = ()

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Prototypes:
        """The mean of each label's raw sentence features, and the prototypes that it retrieves.

        Raises:
            ValueError: there is no bank, or it does not fit the text encoder.
        """
        if self.bank is None:
            raise ValueError(
                "this FreeDA has no prototypes; give weights={..., 'bank': FOLDER}, or set "
                "model.bank = PrototypeBank.open(FOLDER)"
            )
        flat, counts = flatten_prompts(prompts)
        raw = self.towers.read(flat).split(counts)
        means = torch.stack([of_label.mean(dim=0) for of_label in raw])
        features = F.normalize(means, dim=-1, eps=1e-6)
        config = self.config
        prototypes = Retrieval.of(self.bank)(
            features,
            k=config.k,
            least_similarity=config.least_similarity,
            each=config.each,
        )
        return Prototypes(features, prototypes=prototypes)

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B _ H W"]:
        """Logits of each pixel.

        Where ``texts.background`` is a number, one more map comes last: of the pixels that are
        none of the texts by the rule.
        """
        known, rule = self._checked(texts)
        places, wholes = self.towers.see(images, squash=rule.squash)
        # The score of the view as a whole is a bare cosine, beside a squeezed one (published).
        of_view = F.normalize(wholes, dim=-1) @ known.features.T
        views = [
            self._view(places[index], images[index], of_view[index], known, rule).logit(eps=MARGIN)
            for index in range(len(images))
        ]
        return torch.stack(views)

    def read_part(self, part: str, source: Source) -> Any:
        """The tensors of a file, or the bank in a folder."""
        if part != "bank":
            return read_weights(source)
        if isinstance(source, Mapping):
            raise ValueError("a bank came as a state dict; give its folder")
        return PrototypeBank.open(fetch(source) if isinstance(source, Weights) else source)

    def initialise(self, states: Mapping[str, Any]) -> tuple[KeyFate, ...]:
        """Load the official files of the encoders, and take the bank.

        The small model has the bundled encoder where no other is given.
        """
        towers = {part: state for part, state in states.items() if part != "bank"}
        if "lite" in self.parts and not towers:
            towers["lite"] = read_encoder(LITE_WEAK_WEIGHTS)
        fates = initialise(self, towers)
        self.bank = states.get("bank", self.bank)
        self.key_fates = fates
        return fates

    def _checked(self, texts: Texts) -> tuple[Prototypes, Rule]:
        if not isinstance(texts, Prototypes):
            raise TypeError(
                f"texts came as {type(texts).__name__}; FreeDA needs prototypes too: give what "
                "its own encode_texts made"
            )
        if texts.rule not in self.rules:
            raise ValueError(f"rule {texts.rule!r}; this model has {sorted(self.rules)}")
        return texts, self.rules[texts.rule]

    def _view(
        self,
        places: Float[Tensor, "D h w"],
        image: Float[Tensor, "3 H W"],
        of_view: Float[Tensor, " T"],
        texts: Prototypes,
        rule: Rule,
    ) -> Float[Tensor, "_ H W"]:
        """Scores of the pixels of one view."""
        if texts.prototypes.shape[2] != len(places):
            raise ValueError(
                f"prototypes have {texts.prototypes.shape[2]} channels, but this model's places "
                f"{len(places)}; the bank was made with another image encoder"
            )
        regions = self._regions(places, image, rule)
        directions = F.normalize(places, dim=0)
        size = (image.shape[1], image.shape[2])

        def paint(prototypes: Float[Tensor, "1 T P D"]) -> Float[Tensor, "1 T H W"]:
            scores = local_scores(
                self._cosines(prototypes[0], "weighted"),
                directions,
                size,
                regions,
                gain=self.config.gain,
                region_cosines=self._cosines(prototypes[0], self.config.mixing),
            )
            return scores[None]

        local = in_chunks(paint, self.class_chunk, texts.prototypes[None])[0]
        bar, weight = texts.background, self.config.local_weight
        best = local.amax(dim=0) if bar is not None and rule.none_rule == "only_dino" else None
        scores = weight * local + (1 - weight) * of_view[:, None, None]
        if bar is not None and best is None:
            best = local.gather(0, scores.argmax(dim=0, keepdim=True))[0]
        if self.config.pamr:
            scores = self._refined(scores, image)
        if best is None:
            return scores
        return torch.cat([scores, (best < cast(float, bar)).to(scores)[None]])

    def _cosines(self, prototypes: Float[Tensor, "T P D"], mixing: Mixing) -> Cosines:
        def cosines(directions: Float[Tensor, "N D"]) -> Float[Tensor, "T N"]:
            weight = self.config.max_weight
            return prototype_cosines(directions, prototypes, max_weight=weight, mixing=mixing)

        return cosines

    def _regions(
        self, places: Float[Tensor, "D h w"], image: Float[Tensor, "3 H W"], rule: Rule
    ) -> Regions | None:
        if rule.superpixels is None:
            return None
        pixels = image.detach().round().clamp(0, 255).byte().cpu()
        numbers = rule.superpixels.of(
            rearrange(pixels, "C H W -> H W C").contiguous().numpy(), cache=self.cache
        )
        on_device = torch.from_numpy(numbers.astype("int64")).to(places.device)
        features = region_features(places, on_device, rule.superpixels.pooling)
        return Regions.of(on_device, features)

    def _refined(
        self, scores: Float[Tensor, "T H W"], image: Float[Tensor, "3 H W"]
    ) -> Float[Tensor, "T H W"]:
        affinity = pixel_affinity(image)

        def spread(part: Float[Tensor, "1 T H W"]) -> Float[Tensor, "1 T H W"]:
            return refine(part[0], affinity, iterations=self.config.pamr)[None]

        return in_chunks(spread, PAMR_CHUNK, scores[None])[0]


def published_superpixels() -> dict[str, Superpixels]:
    """The settings of the released configurations, by benchmark; "" is that of most."""
    common = Superpixels(pooling="published")
    return {
        "": common,  # context59 and ade150
        "voc20": replace(common, sigma=0.7),
        "stuff171": replace(common, min_size=100),
        "cityscapes19": replace(common, scale=20.0, sigma=0.5, min_size=50),
    }


def freeda_rules() -> dict[str, Rule]:
    """Ways to make scores by name; "" is ours, behind "published" stands the benchmark."""
    published = {
        "_".join(filter(None, ("published", name))): Rule(superpixels, squash=True)
        for name, superpixels in published_superpixels().items()
    }
    return {
        "": Rule(Superpixels()),
        **published,
        "published_only_dino": published["published"],
        "published_after_ensemble": replace(published["published"], none_rule="after_ensemble"),
    }


RAW: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
BACKGROUND = 0.4  # published; a score of a fitting text is above 0.5, so it hardly ever holds
WITH_BACKGROUND = ("voc21", "context60", "object81")


def freeda_protocols(
    size: int = 518, *, patch: int = 14, window: int = 448, longest: int = 2048
) -> dict[str, Protocol]:
    """How images reach a FreeDA.

    * "default": the whole image at its own aspect ratio, its shorter side ``size``.
    * "published": shorter side ``window``, in windows of that size, half of it apart.
    * "published_voc20" and so on: with the superpixels that the authors use there.
    * "published_only_dino", "published_after_ensemble": the two other rules for a background.
    """
    whole = Preprocess(**RAW, shorter=size, longest=4 * size, multiple=patch)
    authors = Protocol(
        OpenCVPreprocess(**RAW, shorter=window, longest=longest),
        Tiling(window=window, stride=window // 2),
        first_synonym=True,
        authors="freeda",
        thresholds=dict.fromkeys(WITH_BACKGROUND, BACKGROUND),
    )
    ways = [name for name in freeda_rules() if name]
    return {
        "default": Protocol(whole),
        **{
            name: replace(
                authors,
                rule=name,
                background_inside=name.endswith(("only_dino", "after_ensemble")),
            )
            for name in ways
        },
    }


def _build(dino: DINOv2, clip: Any, changes: Mapping[str, Any]) -> FreeDA:
    return FreeDA(
        TwoTowers(dino, clip),
        FreeDAConfig(**changes),
        protocols=freeda_protocols(),
        rules=freeda_rules(),
    )


@register_model
def freeda_vitb14(**changes: Any) -> FreeDA:
    """FreeDA on DINOv2 ViT-B/14 and CLIP ViT-B/16; ``changes`` go to :class:`FreeDAConfig`."""
    return _build(DINOv2(VITB14), clip_vitb16(), changes)


@register_model
def freeda_vitl14(**changes: Any) -> FreeDA:
    """FreeDA on DINOv2 ViT-L/14 and CLIP ViT-L/14; ``changes`` go to :class:`FreeDAConfig`."""
    return _build(DINOv2(VITL14), clip_vitl14(), changes)


@register_model
def freeda_lite(**changes: Any) -> FreeDA:
    """FreeDA on a small encoder that saw no mask; ``changes`` go to :class:`FreeDAConfig`.

    The view as a whole does not count, words of another meaning do not either, and pixels stand for
    themselves; protocol "superpixels" has regions. What was measured: docs/methods/freeda.md.
    """
    measured = FreeDAConfig(k=48, least_similarity=0.75, local_weight=1.0)
    whole = Protocol(replace(LITE_PREPROCESS, **RAW))
    return FreeDA(
        OneTower(Lite(), colours=(LITE_PREPROCESS.mean, LITE_PREPROCESS.std)),
        replace(measured, **changes),
        protocols={"default": whole, "superpixels": replace(whole, rule="superpixels")},
        rules={"": Rule(), "superpixels": Rule(Superpixels())},
    )
