"""Image-text pairs in tar shards of the webdataset form, read at random places without unpacking.

The webdataset package streams, but a run that resumes bit for bit has to ask for sample i; its
sibling wids gives that, for shards that were described in a JSON file beforehand.
"""

import hashlib
import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from lexiseg.atomic import written_whole
from lexiseg.data.captions.files import Texts
from lexiseg.data.captions.tars import IMAGE_KINDS, samples

MOST_SHARDS = 1_000_000
_SHARD = re.compile(r".*\.(tar(\.(gz|bz2|xz|zst))?|tgz)", re.DOTALL)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_INDEX_VERSION = 1
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Shard:
    """Where the pairs of one tar are; a sample with several captions has as many pairs.

    Attributes:
        path: the tar.
        size: of the tar when it was indexed, in bytes.
        modified: when the tar was last changed, in nanoseconds.
        keys: of each pair.
        captions: of each pair.
        places: of each pair, where its image starts in the tar and how long it is, in bytes.
    """

    path: Path
    size: int
    modified: int
    keys: Texts
    captions: Texts
    places: Int64[np.ndarray, "N 2"]

    def __len__(self) -> int:
        return len(self.captions)

    def read_image(self, index: int) -> bytes:
        """The image file of one pair.

        Raises:
            ValueError: the tar is not the one that was indexed.
        """
        start, length = map(int, self.places[index])
        # Opened anew each time, which is cheap: nothing to share between workers, or to run out of.
        with self.path.open("rb") as file:
            now = os.fstat(file.fileno())
            if (now.st_size, now.st_mtime_ns) != (self.size, self.modified):
                raise ValueError(
                    f"{self.path} was changed after it was indexed; open the data set anew"
                )
            file.seek(start)
            return file.read(length)


def find_shards(source: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """The tars of a pattern such as ``cc3m-{00000..00331}.tar``, of a folder, or of a list.

    Raises:
        ValueError: there are none, some are missing, or a pattern stands for too many.
    """
    if isinstance(source, (str, Path)):
        folder = Path(source)
        if folder.is_dir():
            paths = sorted(p for p in folder.iterdir() if _SHARD.fullmatch(p.name))
        else:
            paths = [Path(name) for name in _expand(str(source))]
    else:
        paths = [Path(name) for part in source for name in _expand(str(part))]
    if not paths:
        raise ValueError(
            f"{source} holds no pairs; allowed are tar shards (*.tar), or photographs with a "
            "captions.json"
        )
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(paths)} shards are missing, the first {missing[0]}"
        )
    return tuple(paths)


def index_shard(path: Path, folder: Path | None = None) -> Shard:
    """Where the pairs of a tar are; read from the index file where that is up to date.

    Args:
        path: the tar.
        folder: where the index file is kept; None keeps it beside the tar as
            ``NAME.tar.index.npz``. Where it cannot be written, the tar is indexed each time.

    Raises:
        ValueError: the tar is cut off, damaged or compressed, holds no pair, or a caption in it
            cannot be read.
    """
    status = path.stat()
    file = path.with_name(f"{path.name}.index.npz")
    if folder is not None:  # tars of two data sets may have the same name
        digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
        file = folder / f"{path.stem}.{digest}.index.npz"
    shard = _read_index(file, path, status)
    if shard is None:
        keys, captions, places = [], [], []
        for key, texts, place in samples(path):
            keys += [key] * len(texts)
            captions += texts
            places += [place] * len(texts)
        if not keys:
            raise ValueError(
                f"{path} holds no image with a caption; a sample is KEY.jpg (or "
                f"{', '.join(IMAGE_KINDS[1:])}) with KEY.txt or KEY.json"
            )
        shard = Shard(
            path,
            status.st_size,
            status.st_mtime_ns,
            Texts.of(keys),
            Texts.of(captions),
            np.array(places, np.int64),
        )
        _write_index(file, shard)
    return shard


def _expand(pattern: str) -> list[str]:
    """Every name that a pattern with ranges such as {000..331} stands for."""
    ranges = _RANGE.findall(pattern)
    count = math.prod(max(int(last) - int(first) + 1, 0) for first, last in ranges)
    if count > MOST_SHARDS:
        raise ValueError(
            f"{pattern} stands for {count} shards; at most {MOST_SHARDS} go: give a smaller range"
        )
    return _expanded(pattern)


def _expanded(pattern: str) -> list[str]:
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    before, (first, last) = pattern[: match.start()], match.groups()
    numbers = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    tails = _expanded(pattern[match.end() :])
    return [f"{before}{number}{tail}" for number in numbers for tail in tails]


def _read_index(file: Path, path: Path, status: os.stat_result) -> Shard | None:
    """The index that was kept; None where it is not there, damaged, or of another tar."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as index:
            about = (_INDEX_VERSION, status.st_size, status.st_mtime_ns)
            if tuple(index["about"].tolist()) != about:
                return None
            return Shard(
                path,
                status.st_size,
                status.st_mtime_ns,
                Texts(index["keys"], index["key_ends"]),
                Texts(index["captions"], index["caption_ends"]),
                index["places"],
            )
    except Exception:  # whatever is wrong with the file, it is made again
        return None


def _write_index(file: Path, shard: Shard) -> None:
    """Put the index into its place whole, if that can be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as temporary, temporary.open("xb") as opened:
            np.savez_compressed(
                opened,
                about=np.array([_INDEX_VERSION, shard.size, shard.modified], np.int64),
                keys=shard.keys.characters,
                key_ends=shard.keys.ends,
                captions=shard.captions.characters,
                caption_ends=shard.captions.ends,
                places=shard.places,
            )
    except OSError as error:
        _logger.warning(
            "%s is indexed each time: %s cannot be written (%s)", shard.path, file, error
        )
