"""What makes the rows of a bank: image features to pool, and text features to find them by.

:class:`BankEncoder` is all that the offline stage knows of encoders. ``DinoClip`` is the paper's
pair; ``LiteBankEncoder`` is the encoder that lexiseg bundles, which works without a download.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from lexiseg.encoders import clip as clip_models
from lexiseg.encoders import dinov2 as dino_models
from lexiseg.encoders.byte_pairs import encode, vocabulary
from lexiseg.encoders.checkpoints import infer_config
from lexiseg.encoders.clip import CLIP
from lexiseg.encoders.dinov2 import IMAGENET_MEAN, IMAGENET_STD, DINOv2
from lexiseg.encoders.lite import LITE_PREPROCESS, Lite
from lexiseg.encoders.tokenizer import tokenize
from lexiseg.encoders.wordpiece import bert_wordpiece, split_words
from lexiseg.images import Preprocess
from lexiseg.methods.freeda.bank import BankKind
from lexiseg.methods.freeda.model import TEMPLATES
from lexiseg.methods.freeda.offline.attribution import WORD_END, word_positions
from lexiseg.methods.freeda.offline.text_keys import (
    KeyKind,
    caption_key,
    context_key,
    template_key,
)
from lexiseg.weights import state_sha256

POOLING = "mean under the mask, a patch counting by the part that is covered"


@runtime_checkable
class BankEncoder(Protocol):
    """Image features and text keys of one kind of bank."""

    kind: BankKind

    def image_features(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "D h w"]:
        """What a prototype is pooled from, on a grid that covers the whole image."""
        ...

    def keys(self, caption: str, words: Sequence[str], kind: KeyKind) -> list[Tensor | None]:
        """A key for each word of a caption, as it stands there; None where the caption was cut."""
        ...

    def word_key(self, word: str) -> Float[Tensor, " Dk"]:
        """The key of a word without a caption."""
        ...

    def identity(self) -> dict[str, str]:
        """What decides features and keys."""
        ...


class DinoClip:
    """DINOv2's patches and CLIP's sentences: FreeDA's pair.

    An image's shorter side becomes that of DINOv2's own square, 518 pixels; a square one is seen as
    the released code sees its windows.
    """

    def __init__(self, dino: DINOv2, clip: CLIP) -> None:
        self.dino, self.clip = dino.eval(), clip.eval()
        side = dino.config.image_size
        self._preprocess = Preprocess(
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            shorter=side,
            longest=2 * side,
            multiple=dino.patch_size,
        )
        self.kind = BankKind(_clip_name(clip), _dino_name(dino), POOLING)

    @torch.no_grad()
    def image_features(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "D h w"]:
        """Patch features after the last norm."""
        device = self.dino.position_embedding.device
        return self.dino(self._preprocess(image)[None].to(device)).patch_features[0].cpu()

    @torch.no_grad()
    def keys(self, caption: str, words: Sequence[str], kind: KeyKind) -> list[Tensor | None]:
        """A key for each word, of the kind that is asked for."""
        if kind == "template":
            return [self.word_key(word) for word in words]
        tower = self.clip.text
        ids = tokenize([caption], context_length=tower.context_length, truncate=True)
        features = tower(ids.to(self.clip.logit_scale.device))
        if kind == "caption":
            return [caption_key(features.pooled[0].cpu())] * len(words)
        projected = (features.words[0] @ tower.projection).cpu()
        tokens = _clip_tokens(caption.lower())
        rows = [word_positions(tokens, _clip_tokens(w.lower()), whole_words=True) for w in words]
        end = len(projected) - 1  # the last token is the end, which a cut puts over a word
        return [context_key(projected, row) if max(row) < end else None for row in rows]

    @torch.no_grad()
    def word_key(self, word: str) -> Float[Tensor, " Dk"]:
        """The mean of the word in FreeDA's seven templates."""
        prompts = [template.format(word) for template in TEMPLATES]
        return template_key(self.clip.encode_prompts(prompts).pooled).cpu()

    def identity(self) -> dict[str, str]:
        """Checksums of both networks."""
        return {
            "dino": state_sha256(self.dino.state_dict()),
            "clip": state_sha256(self.clip.text.state_dict()),
        }


class LiteBankEncoder:
    """The bundled encoder: its patches and its sentences, both in their joint space.

    Args:
        lite: with weights.
        name: of the weights, for the bank.
    """

    def __init__(self, lite: Lite, name: str = "lite") -> None:
        self.lite = lite.eval()
        self.kind = BankKind(name, name, POOLING)

    @torch.no_grad()
    def image_features(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "D h w"]:
        """Patch features in the joint space, the image's sides kept in proportion."""
        pixels = LITE_PREPROCESS(image)[None].to(self.lite.logit_scale.device)
        return self.lite.encode_images(pixels).patch_features[0].cpu()

    @torch.no_grad()
    def keys(self, caption: str, words: Sequence[str], kind: KeyKind) -> list[Tensor | None]:
        """A key for each word, of the kind that is asked for."""
        if kind == "template":
            return [self.word_key(word) for word in words]
        features = self.lite.encode_prompts([caption])
        if kind == "caption":
            return [caption_key(features.pooled[0].cpu())] * len(words)
        tokens = _wordpiece_tokens(caption)
        rows = [word_positions(tokens, _wordpiece_tokens(w), whole_words=True) for w in words]
        end = features.words.shape[1] - 1
        return [self._context(features.words[0], row) if max(row) < end else None for row in rows]

    @torch.no_grad()
    def word_key(self, word: str) -> Float[Tensor, " Dk"]:
        """The mean of the word in FreeDA's seven templates."""
        prompts = [template.format(word) for template in TEMPLATES]
        return template_key(self.lite.encode_prompts(prompts).pooled).cpu()

    def identity(self) -> dict[str, str]:
        """A checksum of the network."""
        return {"lite": state_sha256(self.lite.state_dict())}

    def _context(self, tokens: Float[Tensor, "L C"], rows: Sequence[int]) -> Float[Tensor, " Dk"]:
        """The word's tokens, pooled and projected as the tower does it with a whole sentence."""
        pooled = F.normalize(tokens[list(rows)].mean(dim=0), dim=-1)
        return caption_key(self.lite.text_projection(pooled)).cpu()


def _clip_tokens(text: str) -> list[str]:
    """CLIP's tokens of a text, marked at a word's end."""
    spelling = vocabulary().spelling
    spelled = (spelling[number].decode("utf-8", "backslashreplace") for number in encode(text))
    return [_marked(token.removesuffix(" "), token.endswith(" ")) for token in spelled]


def _wordpiece_tokens(text: str) -> list[str]:
    """The sentence encoder's tokens of a text, marked at a word's end."""
    wordpiece = bert_wordpiece()
    words = [wordpiece.pieces(word) for word in split_words(text)]
    return [
        _marked(str(piece), index == len(pieces) - 1)
        for pieces in words
        for index, piece in enumerate(pieces)
    ]


def _marked(token: str, is_end: bool) -> str:
    return token + WORD_END if is_end else token


def _clip_name(model: CLIP) -> str:
    config = infer_config(model.state_dict())
    names = ("VITB16", "VITB32", "VITL14", "VITL14_336", "RN50", "RN101")
    known = (name for name in names if getattr(clip_models, name) == config)
    return f"clip_{next(known, f'of_{model.dim}_channels').lower()}"


def _dino_name(model: DINOv2) -> str:
    config = replace(model.config, registers=0)
    known = (
        n for n in ("VITS14", "VITB14", "VITL14", "VITG14") if getattr(dino_models, n) == config
    )
    name = next(known, f"of_{config.width}_channels").lower()
    return f"dinov2_{name}" + ("_reg" if model.config.registers else "")
