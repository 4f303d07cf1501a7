"""FreeDA's offline stage: a caption becomes an image, its words masks, the masks prototypes.

caption ─ Diffusion ─ image ─ BankEncoder.image_features ───────────┐
   │                    └ token maps ─ word map ─ threshold ─ mask ─ pool_mask ─▶ prototype
   └ Nouns ─ words ─ BankEncoder.keys ────────────────────────────────────────▶ key

One caption is one task and gives one outcome (tasks.py), whatever machine works at it.
"""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lexiseg.methods.freeda.offline.attribution import (
    attribution_mask,
    expand,
    pool_mask,
    word_map,
    word_positions,
)
from lexiseg.methods.freeda.offline.diffusion import Generated, ImageGenerator
from lexiseg.methods.freeda.offline.encoding import BankEncoder
from lexiseg.methods.freeda.offline.nouns import Noun, Nouns
from lexiseg.methods.freeda.offline.tasks import Outcome, Task
from lexiseg.methods.freeda.offline.text_keys import KeyKind, key_kind

LEAST_PATCHES = 1.0  # a smaller mask is left out: its mean would be of what lies beside it


@dataclass(frozen=True)
class CollectionSettings:
    """What is ours to choose, the authors having published none of it.

    Attributes:
        threshold: from 0 to 1, what a pixel of a word's map must exceed; 0.4 is what DAAM draws.
        key: what a prototype is found by, explained in text_keys.py.
        seed: from which each caption's own seed is made.
        keep_images: return the generated images too.
    """

    threshold: float = 0.4
    key: KeyKind = "context"
    seed: int = 0
    keep_images: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold {self.threshold}; it lies from 0 to below 1")
        key_kind(self.key)


class Collector:
    """Works at captions, one at a time.

    Args:
        diffusion: makes the images.
        encoder: makes features and keys.
        nouns: which words of a caption count.
        settings: what else there is to choose.
    """

    def __init__(
        self,
        *,
        diffusion: ImageGenerator,
        encoder: BankEncoder,
        nouns: Nouns,
        settings: CollectionSettings | None = None,
    ) -> None:
        self.diffusion, self.encoder, self.nouns = diffusion, encoder, nouns
        self.settings = settings or CollectionSettings()

    def __call__(self, task: Task) -> Outcome:
        """The prototypes of a caption; a caption without a word of the list makes no image."""
        nouns = self.nouns.find(task.caption)
        if not nouns:
            return self._outcome(task, [], [("", "no word of the list is in the caption")])
        generated = self.diffusion.generate(task.caption, task.seed)
        if generated.flagged:
            left_out = [(noun.name, "the safety checker refused the image") for noun in nouns]
            return self._outcome(task, [], left_out, generated)
        features = self.encoder.image_features(generated.image)
        keys = self.encoder.keys(task.caption, [noun.surface for noun in nouns], self.settings.key)
        rows, left_out = [], []
        for noun, key in zip(nouns, keys, strict=True):
            prototype, why = self._prototype(generated, features, noun)
            if key is None:
                why = "the caption is too long for the text tower"
            if prototype is None or key is None:
                left_out.append((noun.name, why))
            else:
                rows.append((noun.name, key, prototype))
        return self._outcome(task, rows, left_out, generated)

    def identity(self) -> dict[str, Any]:
        """What decides the outcome of a caption; a job goes on only with the same."""
        names = "\n".join(self.nouns.names).encode()
        settings = {k: v for k, v in asdict(self.settings).items() if k != "keep_images"}
        packages = ("torch", "diffusers", "transformers")
        return {
            **self.diffusion.identity(),
            "encoder": {**asdict(self.encoder.kind), **self.encoder.identity()},
            "settings": settings,
            "words": hashlib.sha256(names).hexdigest(),
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }

    def _prototype(
        self, generated: Generated, features: Tensor, noun: Noun
    ) -> tuple[Tensor | None, str]:
        """The mean feature under a word's mask; or None, and why."""
        try:
            rows = word_positions(
                generated.tokens, self.diffusion.word_tokens(noun.surface), whole_words=True
            )
        except ValueError:
            return None, "the caption is too long for the diffusion model"
        heat = word_map(generated.token_maps, rows)
        mask = attribution_mask(expand(heat, generated.image.shape[:2]), self.settings.threshold)
        prototype, covered = pool_mask(features, mask)
        if covered < LEAST_PATCHES:
            return None, "its mask covers less than a patch"
        if not prototype.half().isfinite().all():
            return None, "its prototype is not finite"
        return prototype, ""

    def _outcome(
        self,
        task: Task,
        rows: Sequence[tuple[str, Tensor, Tensor]],
        left_out: Sequence[tuple[str, str]],
        generated: Generated | None = None,
    ) -> Outcome:
        empty = torch.zeros(0, 0)
        return Outcome(
            task,
            words=tuple(name for name, _, _ in rows),
            keys=(torch.stack([key for _, key, _ in rows]) if rows else empty).half(),
            prototypes=(torch.stack([each for _, _, each in rows]) if rows else empty).half(),
            left_out=tuple(left_out),
            source=self.diffusion.name,
            image=generated.image if generated and self.settings.keep_images else None,
        )
