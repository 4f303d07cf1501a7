"""CLIP's published checkpoints: where they are, and how their keys reach ours (clip_keys.py).

A function ``from_X`` turns the state dict of layout X into ours, ``to_X`` turns it back; keys that
no rule knows pass through unchanged, so that strict loading reports them.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor

from lexiseg.encoders.clip import (
    CLIP,
    CLIPConfig,
    CLIPResNetConfig,
    build_clip,
    build_clip_resnet,
)
from lexiseg.encoders.clip_keys import (
    HUGGINGFACE_EXTRAS,
    HUGGINGFACE_KEYS,
    HUGGINGFACE_TRANSPOSED,
    OPENAI_EXTRAS,
    OPENAI_KEYS,
    OPENAI_RESNET_KEYS,
)
from lexiseg.encoders.clip_resnet import STRIDE, ResNetDense
from lexiseg.encoders.clip_vit import Dense
from lexiseg.encoders.projections import join_projections, split_projections
from lexiseg.layers.blocks import Activation
from lexiseg.weights import Source, Weights, load_state, read_weights, rename_keys

Layout = Literal["lexiseg", "openai", "open_clip", "huggingface"]

_FUSED = "in_proj_weight"


def from_openai(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for a state dict of openai/CLIP.

    The fused ``in_proj_weight`` is split in three; CAT-Seg's files hold it split already, which is
    taken too.
    """
    kept = {key: value for key, value in state.items() if key.split(".")[-1] not in OPENAI_EXTRAS}
    is_resnet = any(key.startswith("visual.layer1.") for key in kept)
    table = (*OPENAI_RESNET_KEYS, *OPENAI_KEYS) if is_resnet else OPENAI_KEYS
    return rename_keys(split_projections(kept, _FUSED), table)


def to_openai(state: Mapping[str, Tensor], *, fused: bool = True) -> dict[str, Tensor]:
    """The state dict of openai/CLIP, which is open_clip's too; ``fused=False`` as in CAT-Seg."""
    theirs = rename_keys(state, (*OPENAI_RESNET_KEYS, *OPENAI_KEYS), reverse=True)
    return join_projections(theirs, _FUSED) if fused else theirs


def from_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for a state dict of open_clip, from a training run or not.

    A data-parallel "module." and the "text." of its models with a text tower apart are taken off.
    """
    return from_openai(
        {key.removeprefix("module.").removeprefix("text."): value for key, value in state.items()}
    )


def from_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for a state dict of ``CLIPModel`` of transformers."""
    kept = {key: value for key, value in state.items() if key not in HUGGINGFACE_EXTRAS}
    for key in [key for key in kept if key.endswith("self_attn.q_proj.bias")]:
        stem = key.removesuffix("q_proj.bias")
        names = [f"{stem}{letter}_proj.bias" for letter in "qkv"]
        if all(name in kept for name in names):
            kept[f"{stem}in_proj_bias"] = torch.cat([kept.pop(name) for name in names])
    return _transpose_projections(rename_keys(kept, HUGGINGFACE_KEYS))


def to_huggingface(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of ``CLIPModel`` of transformers."""
    theirs = rename_keys(_transpose_projections(state), HUGGINGFACE_KEYS, reverse=True)
    for key in [key for key in theirs if key.endswith("self_attn.in_proj_bias")]:
        stem = key.removesuffix("in_proj_bias")
        for letter, part in zip("qkv", theirs.pop(key).chunk(3), strict=True):
            theirs[f"{stem}{letter}_proj.bias"] = part
    return theirs


def _transpose_projections(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: value.T if key in HUGGINGFACE_TRANSPOSED else value for key, value in state.items()
    }


def layout_of(state: Mapping[str, Tensor]) -> Layout:
    """Whose names a CLIP state dict uses.

    Raises:
        ValueError: nobody's that is known.
    """
    if any(key.startswith("vision_model.") for key in state):
        return "huggingface"
    if any(key.startswith(("module.", "text.transformer.")) for key in state):
        return "open_clip"
    if "visual.patch_embedding.weight" in state or "visual.stem.0.conv.weight" in state:
        return "lexiseg"
    if "visual.proj" in state or "visual.layer1.0.conv1.weight" in state:
        return "openai"
    raise ValueError(
        f"these are not the names of a CLIP: {sorted(state)[:3]}; known are the layouts of "
        "openai/CLIP, open_clip and Hugging Face transformers (CLIPModel)"
    )


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for a CLIP state dict of any known layout."""
    readers: dict[Layout, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
        "lexiseg": dict,
        "openai": from_openai,
        "open_clip": from_open_clip,
        "huggingface": from_huggingface,
    }
    return readers[layout_of(state)](state)


def infer_config(
    state: Mapping[str, Tensor], *, activation: Activation = "quick_gelu"
) -> CLIPConfig | CLIPResNetConfig:
    """The architecture that a state dict under our names belongs to, read off its shapes.

    ``activation`` cannot be seen there; OpenAI's weights need the default.
    """
    context_length, text_width = state["text.position_embedding"].shape
    text: dict[str, Any] = {
        "dim": state["text.projection"].shape[1],
        "text_width": text_width,
        "text_layers": _count_blocks(state, r"text\.blocks"),
        "context_length": context_length,
        "vocabulary": len(state["text.token_embedding.weight"]),
        "activation": activation,
    }
    if "visual.attention_pool.position_embedding" in state:
        cells = len(state["visual.attention_pool.position_embedding"]) - 1
        return CLIPResNetConfig(
            image_size=STRIDE * round(cells**0.5),
            vision_width=2 * len(state["visual.stem.0.conv.weight"]),
            vision_layers=tuple(
                _count_blocks(state, rf"visual\.stages\.{stage}") for stage in range(4)
            ),
            **text,
        )
    patches, vision_width = state["visual.position_embedding"].shape
    patch_size = state["visual.patch_embedding.weight"].shape[-1]
    return CLIPConfig(
        image_size=patch_size * round((patches - 1) ** 0.5),
        patch_size=patch_size,
        vision_width=vision_width,
        vision_layers=_count_blocks(state, r"visual\.blocks"),
        **text,
    )


def _count_blocks(state: Mapping[str, Tensor], blocks: str) -> int:
    pattern = re.compile(rf"{blocks}\.(\d+)\.")
    return len({match[1] for key in state if (match := pattern.match(key))})


_TEXT_TOWER = ("text.position_embedding", "text.projection", "text.token_embedding.weight")
_VIT = ("visual.position_embedding", "visual.patch_embedding.weight")
_RESNET = ("visual.attention_pool.position_embedding", "visual.stem.0.conv.weight")


def load_clip(
    source: Source,
    *,
    dense: Dense | ResNetDense | None = None,
    activation: Activation = "quick_gelu",
) -> CLIP:
    """A CLIP with weights of any known layout; its variant is read off their shapes.

    Args:
        source: a file, a record such as ``OPENAI["clip_vitb16"]``, or a state dict.
        dense: explained at ``VisionTransformer`` ("final" by default) and ``ModifiedResNet``
            ("value" by default).
        activation: "gelu" for weights that open_clip's authors trained without "quickgelu".

    Raises:
        ValueError: the layout is not known, or keys do not fit; the message lists them.
    """
    state = from_published(read_weights(source))
    is_resnet = any(key.startswith("visual.stages.") for key in state)
    required = (*(_RESNET if is_resnet else _VIT), *_TEXT_TOWER)
    missing = [key for key in required if key not in state]
    if missing:
        raise ValueError(f"the weights lack {missing}; a CLIP has an image and a text tower")
    config = infer_config(state, activation=activation)
    if isinstance(config, CLIPResNetConfig):
        model = build_clip_resnet(config, dense=cast(ResNetDense, dense or "value"))
    else:
        model = build_clip(config, dense=cast(Dense, dense or "final"))
    load_state(model, state)
    return model


def _openai(name: str, sha256: str) -> Weights:
    """A record of OpenAI's own files, whose URLs hold their SHA-256."""
    return Weights(
        url=f"https://openaipublic.azureedge.net/clip/models/{sha256}/{name}",
        sha256=sha256,
        licence="MIT",
        origin="https://github.com/openai/CLIP",
        paper="Radford et al., Learning Transferable Visual Models From Natural Language "
        "Supervision, ICML 2021",
        trained_on="400 million image-text pairs of the web, not published",
    )


OPENAI = {
    "clip_rn50": _openai(
        "RN50.pt", "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
    ),
    "clip_rn101": _openai(
        "RN101.pt", "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"
    ),
    "clip_vitb32": _openai(
        "ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    ),
    "clip_vitb16": _openai(
        "ViT-B-16.pt", "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
    ),
    "clip_vitl14": _openai(
        "ViT-L-14.pt", "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
    ),
    "clip_vitl14_336": _openai(
        "ViT-L-14-336px.pt", "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
    ),
}
