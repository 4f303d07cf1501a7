"""A collector in words: what to load, so that any process or machine can load the same."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lexiseg.encoders.checkpoints import load_clip
from lexiseg.encoders.dinov2_checkpoints import load_dinov2
from lexiseg.encoders.lite import Lite
from lexiseg.encoders.lite_checkpoints import LITE_WEIGHTS, read_encoder
from lexiseg.methods.freeda.offline.collection import CollectionSettings, Collector
from lexiseg.methods.freeda.offline.diffusion import Diffusion
from lexiseg.methods.freeda.offline.encoding import BankEncoder, DinoClip, LiteBankEncoder
from lexiseg.methods.freeda.offline.nouns import Nouns
from lexiseg.weights import load_state


@dataclass(frozen=True)
class EncoderFiles:
    """Which encoders make a bank.

    Attributes:
        dino: an official DINOv2 file; None for the bundled encoder.
        clip: an official CLIP file; None for the bundled encoder.
    """

    dino: str | None = None
    clip: str | None = None

    def __post_init__(self) -> None:
        if (self.dino is None) != (self.clip is None):
            raise ValueError(
                f"DINOv2 {self.dino!r} and CLIP {self.clip!r} came; give both files, or neither "
                "for the bundled encoder"
            )

    def load(self, device: str | torch.device = "cpu") -> BankEncoder:
        """The encoders, with weights.

        Raises:
            ValueError: a file is not what it should be.
        """
        if self.dino is None or self.clip is None:
            lite = Lite()
            load_state(lite, read_encoder(LITE_WEIGHTS))
            return LiteBankEncoder(lite.to(device))
        return DinoClip(load_dinov2(self.dino).to(device), load_clip(self.clip).to(device))


@dataclass(frozen=True)
class Recipe:
    """All that a collector is made of; it can be sent to other machines.

    Attributes:
        diffusion: a folder as diffusers saves it, or a name on the Hugging Face hub.
        encoders: which encoders.
        names: the words that count; none for the bundled list.
        settings: what else there is to choose.
        steps: of denoising.
        guidance: scale of the classifier-free guidance.
        device: "cpu", "cuda", ...
    """

    diffusion: str
    encoders: EncoderFiles = EncoderFiles()
    names: tuple[str, ...] = ()
    settings: CollectionSettings = field(default_factory=CollectionSettings)
    steps: int = 50
    guidance: float = 7.5
    device: str = "cpu"

    def load(self) -> Collector:
        """The collector.

        Raises:
            ImportError: diffusers is not installed.
            ValueError: something is not what it should be.
        """
        return Collector(
            nouns=self.nouns(),
            encoder=self.encoders.load(self.device),
            diffusion=Diffusion.from_pretrained(
                self.diffusion, steps=self.steps, guidance=self.guidance, device=self.device
            ),
            settings=self.settings,
        )

    def nouns(self) -> Nouns:
        """The words that count."""
        return Nouns(self.names) if self.names else Nouns.bundled()


def read_words(path: str | Path) -> tuple[str, ...]:
    """The words of a file, one a line; blank lines and those that begin with # do not count.

    Raises:
        ValueError: the file cannot be read, or holds no word.
    """
    try:
        lines: Iterable[str] = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read ({reason}); it holds a word a line") from error
    words = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    Nouns(words)
    return words
