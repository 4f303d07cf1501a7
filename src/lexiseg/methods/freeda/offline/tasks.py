"""One caption to work at, and what it gave: the same wherever it is worked at.

A :class:`Task` and an :class:`Outcome` go between processes and machines; an outcome is also what
lies on the disk until a bank is made of it.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float16, UInt8
from PIL import Image as PILImage
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lexiseg.methods.freeda.bank import Record

LONGEST_CAPTION = 2000
_HEADER = 8  # bytes of the length of a safetensors header


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
