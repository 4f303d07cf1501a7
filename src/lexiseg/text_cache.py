"""Features of many texts on disk: what takes minutes to encode is read in a moment.

A file a label set, under the cache folder: its name is a checksum of the weights and the prompts,
so that other weights, names or templates never meet it.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.weights import (
    UnsafeCheckpointError,
    cache_folder,
    read_checkpoint,
    save_weights,
    state_sha256,
)

LEAST_PROMPTS = 512  # fewer are encoded in seconds; so what a user types stays in memory
MOST_FILES = 64

logger = logging.getLogger(__name__)


def encode_once(model: SegmentationModel, prompts: Sequence[Sequence[str]]) -> Texts:
    """What ``model.encode_texts`` gives; of many prompts it is kept on disk.

    Only features are kept, as most methods have them; a method whose texts hold more encodes them
    in each process. A folder that cannot be written, or a damaged file, changes nothing but time.

    Args:
        model: in evaluation mode.
        prompts: of each label.
    """
    if sum(len(each) for each in prompts) < LEAST_PROMPTS:
        return model.encode_texts(prompts)
    path = kept_in(model, prompts)
    try:
        features = read_checkpoint(path)["features"]
        path.touch()  # the oldest go first
        return Texts(features.to(next(model.parameters()).device))
    except (OSError, UnsafeCheckpointError, KeyError):
        pass
    texts = model.encode_texts(prompts)
    if type(texts) is Texts:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_weights(path, {"features": texts.features})
            _remove_old(path.parent)
        except OSError as error:
            logger.info("features of texts are not kept: %s", error)
    return texts


def kept_in(model: SegmentationModel, prompts: Sequence[Sequence[str]]) -> Path:
    """The file of these weights and prompts, whether it is there or not."""
    digest = hashlib.sha256(state_sha256(model.state_dict()).encode())
    digest.update(json.dumps([type(model).__name__, *map(list, prompts)]).encode())
    return cache_folder() / "texts" / f"{digest.hexdigest()[:32]}.safetensors"


def _remove_old(folder: Path) -> None:
    files = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    for path in files[:-MOST_FILES]:
        path.unlink(missing_ok=True)
