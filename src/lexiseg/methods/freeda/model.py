"""FreeDA as a whole: texts become prototypes, places are compared with them, views are combined.

Letters beyond the library's: P prototypes a text, D or C channels of a place, E of the text space.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lexiseg.encoders.base import flatten_prompts, in_parts
from lexiseg.encoders.clip import clip_vitb16, clip_vitl14
from lexiseg.encoders.dinov2 import VITB14, VITL14, DINOv2
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.lite_checkpoints import LITE_WEAK_WEIGHTS, read_encoder
from lexiseg.layers.maps import in_chunks
from lexiseg.methods.base import Activation, Protocol, SegmentationModel, Texts
from lexiseg.methods.freeda.bank import PrototypeBank
from lexiseg.methods.freeda.checkpoints import initialise
from lexiseg.methods.freeda.pamr import refine_under
from lexiseg.methods.freeda.protocols import RAW, Rule, freeda_protocols, freeda_rules
from lexiseg.methods.freeda.regions import Regions, Superpixels
from lexiseg.methods.freeda.retrieval import Retrieval
from lexiseg.methods.freeda.similarity import Mixing, is_none_of_them, local_scores
from lexiseg.methods.freeda.towers import OneTower, Towers, TwoTowers
from lexiseg.registry import register_model
from lexiseg.weights import KeyFate, Source, Weights, fetch, read_weights

# Raw embeddings of these are averaged, as published.
TEMPLATES = (
    *("itap of a {}.", "a bad photo of a {}.", "a origami {}.", "a photo of the large {}."),
    *("a {} in a video game.", "art of the {}.", "a photo of the small {}."),
)
CLASS_CHUNK = 16  # bounds the memory: 0.8 MB a text at 448 x 448 pixels, a few times
MARGIN = 1e-6  # scores are kept so far from 0 and 1, where a logit would be infinite


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


@dataclass(frozen=True, kw_only=True)
class Prototypes(Texts):
    """Texts and what they look like.

    Attributes:
        prototypes: of each text, not normalised.
    """

    prototypes: Float[Tensor, "T P C"]


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

    Attributes:
        key_fates: after :meth:`initialise`, where each tensor of the files went.
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
        raw = in_parts(self.towers.read, flat).split(counts)
        means = torch.stack([of_label.mean(dim=0) for of_label in raw])
        features = F.normalize(means, dim=-1, eps=1e-6)
        config = self.config
        prototypes = Retrieval.of(self.bank)(
            features, k=config.k, least_similarity=config.least_similarity, each=config.each
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
        regions = None
        if rule.superpixels is not None:
            regions = Regions.of_view(image, places, rule.superpixels, cache=self.cache)
        config, directions = self.config, F.normalize(places, dim=0)

        def paint(prototypes: Float[Tensor, "1 T P D"]) -> Float[Tensor, "1 T H W"]:
            return local_scores(
                directions,
                prototypes[0],
                (image.shape[1], image.shape[2]),
                regions,
                max_weight=config.max_weight,
                mixing=config.mixing,
                gain=config.gain,
            )[None]

        local = in_chunks(paint, self.class_chunk, texts.prototypes[None])[0]
        scores = config.local_weight * local + (1 - config.local_weight) * of_view[:, None, None]
        maps = refine_under(image, scores, iterations=config.pamr) if config.pamr else scores
        if texts.background is None:
            return maps
        none = is_none_of_them(local, scores, texts.background, rule.none_rule)
        return torch.cat([maps, none.to(maps)[None]])


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
