"""FreeDA's offline stage: a caption becomes an image, its words masks, the masks prototypes.

caption ─ Diffusion ─ image ─ BankEncoder.image_features ───────────┐
   │                    └ token maps ─ word map ─ threshold ─ mask ─ pool_mask ─▶ prototype
   └ Nouns ─ words ─ BankEncoder.keys ────────────────────────────────────────▶ key

One caption is one :class:`Task` and gives one :class:`Outcome`, whatever machine works at it.
"""

import hashlib
import importlib.metadata
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float16, UInt8
from PIL import Image as PILImage
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lexiseg.methods.freeda.bank import Record
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
from lexiseg.methods.freeda.offline.text_keys import KeyKind, key_kind

LEAST_PATCHES = 1.0  # a smaller mask is left out: its mean would be of what lies beside it
LONGEST_CAPTION = 2000
_HEADER = 8  # bytes of the length of a safetensors header


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


@dataclass(frozen=True)
class Task:
    """One caption to work at.

    Attributes:
        index: its place in the list of captions.
        caption: as it stands there.
        seed: of its image.
    """

    index: int
    caption: str
    seed: int


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one caption gave.

    Attributes:
        task: the caption.
        words: what each row is a prototype of.
        keys: of length one.
        prototypes: not normalised.
        left_out: words that gave no prototype, and why.
        source: the generator.
        image: RGB, where it is kept.
    """

    task: Task
    words: tuple[str, ...]
    keys: Float16[Tensor, "K Dk"]
    prototypes: Float16[Tensor, "K Dp"]
    left_out: tuple[tuple[str, str], ...] = ()
    source: str = ""
    image: UInt8[np.ndarray, "H W 3"] | None = None

    def records(self) -> list[Record]:
        """Where each row came from."""
        return [Record(w, self.task.caption, self.task.seed, self.source) for w in self.words]

    def pack(self) -> bytes:
        """The same as bytes, a safetensors file without the image; equal outcomes, equal bytes."""
        described = {
            **asdict(self.task),
            "words": self.words,
            "left_out": self.left_out,
            "source": self.source,
        }
        text = json.dumps(described, ensure_ascii=True)
        tensors = {"keys": self.keys.contiguous(), "prototypes": self.prototypes.contiguous()}
        return save(tensors, {"outcome": text})

    @classmethod
    def unpack(cls, data: bytes) -> "Outcome":
        """What :meth:`pack` gave.

        Raises:
            ValueError: it is something else, or damaged.
        """
        try:
            tensors = load(data)
            length = int.from_bytes(data[:_HEADER], "little")
            header = json.loads(data[_HEADER : _HEADER + length])
            row = json.loads(header["__metadata__"]["outcome"])
            outcome = cls(
                Task(row["index"], row["caption"], row["seed"]),
                tuple(row["words"]),
                tensors["keys"],
                tensors["prototypes"],
                tuple((word, why) for word, why in row["left_out"]),
                row["source"],
            )
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the outcome of a caption is damaged ({error!r})") from error
        if not len(outcome.words) == len(outcome.keys) == len(outcome.prototypes):
            raise ValueError("the outcome of a caption is damaged (its rows do not fit)")
        return outcome

    def png(self) -> bytes | None:
        """The image as a file."""
        if self.image is None:
            return None
        stream = io.BytesIO()
        PILImage.fromarray(self.image).save(stream, format="PNG")
        return stream.getvalue()


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


def make_tasks(
    captions: Sequence[str], *, seed: int, shard: tuple[int, int] = (1, 1)
) -> list[Task]:
    """The captions of one shard of several, each with its seed.

    Args:
        captions: of all shards.
        seed: from which each caption's own is made, together with its place and its text.
        shard: which one, from 1, and of how many. Shards are runs of captions: banks of all of
            them, merged in their order, are the bank of the whole.

    Raises:
        ValueError: there is no such shard, or a caption is empty, too long or no plain text.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise ValueError(f"shard {number}/{count}; it is from 1/{count} to {count}/{count}")
    for index, caption in enumerate(captions):
        if not caption.strip() or len(caption) > LONGEST_CAPTION:
            raise ValueError(
                f"caption {index + 1} has {len(caption)} characters; a caption is not blank and "
                f"has at most {LONGEST_CAPTION}"
            )
        if not caption.isprintable():
            raise ValueError(f"caption {index + 1} has control characters; remove them")
    first, last = (len(captions) * part // count for part in (number - 1, number))
    return [Task(i, captions[i], _seed_of(seed, i, captions[i])) for i in range(first, last)]


def _seed_of(seed: int, index: int, caption: str) -> int:
    digest = hashlib.sha256(f"{seed} {index} {caption}".encode()).digest()
    return int.from_bytes(digest[:6], "big")  # a JSON reader of 53 bits keeps it


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names of what two identities differ in."""
    return sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
