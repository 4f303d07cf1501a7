"""Ways to make scores of a view by name, and how images reach a FreeDA for each of them."""

from dataclasses import dataclass, replace
from typing import Any

from lexiseg.images import Preprocess
from lexiseg.methods.base import Protocol, Tiling
from lexiseg.methods.freeda.regions import Superpixels
from lexiseg.methods.freeda.similarity import NoneRule
from lexiseg.methods.plain_resize import PlainResize

RAW: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
BACKGROUND = 0.4  # published; a score of a fitting text is above 0.5, so it hardly ever holds
WITH_BACKGROUND = ("voc21", "context60", "object81")


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
        PlainResize(**RAW, shorter=window, longest=longest),
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
