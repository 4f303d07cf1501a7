"""Features of texts, kept: in memory those asked for last, on disk those that take minutes.

On disk they are a file a label set, under the cache folder: its name is a checksum of the weights
and the prompts, so that other weights, names or templates never meet it.
"""

import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from lexiseg.cache import cache_folder
from lexiseg.methods.base import SegmentationModel, Texts
from lexiseg.weights import (
    UnsafeCheckpointError,
    read_checkpoint,
    save_weights,
    state_sha256,
)

LEAST_PROMPTS = 512  # fewer are encoded in seconds; so what a user types stays in memory
MOST_FILES = 64
MOST_IN_MEMORY = 20_000  # prompts, unless a single label set has more

logger = logging.getLogger(__name__)


class TextCache:
    """The label sets that were asked for last, in memory; several threads may ask at once."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[int, tuple[tuple[str, ...], ...]], Texts] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, model: SegmentationModel, prompts: Sequence[Sequence[str]]) -> Texts:
        """What ``model.encode_texts`` gives, computed once for these weights and these prompts."""
        key = (_weights_state(model), tuple(tuple(each) for each in prompts))
        with self._lock:
            if key not in self._held:
                self._held[key] = encode_once(model, prompts)
            self._held.move_to_end(key)
            count = sum(len(each) for _, held in self._held for each in held)
            while count > MOST_IN_MEMORY and len(self._held) > 1:
                (_, dropped), _ = self._held.popitem(last=False)
                count -= sum(len(each) for each in dropped)
            return self._held[key]

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Encode every label set anew at its next call."""
        with self._lock:
            self._held.clear()


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


def _weights_state(model: SegmentationModel) -> int:
    """A number that changes when weights are loaded, trained or moved."""
    tensors = [*model.parameters(), *model.buffers()]
    return hash(tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors))
