"""Published files of weights: what is known of each, and the way to it on this machine."""

import hashlib
import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from lexiseg.atomic import written_whole
from lexiseg.cache import cache_folder

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Weights:
    """A published file of weights.

    Attributes:
        url: where it can be downloaded; None where only by hand, from ``origin``.
        sha256: checksum of the file; None where the authors state none.
        licence: of the weights.
        origin: page of the authors.
        paper: whose work it is.
        trained_on: data.
        scores: what the authors report, such as ``{"ade20k_150 mIoU": 31.8}``.
        asset: path of the file inside the package's assets where it is bundled.
        parts: of a model that starts from several files, the record of each; the asset is then one
            of them.
    """

    url: str | None
    sha256: str | None
    licence: str
    origin: str
    paper: str
    trained_on: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    asset: str | None = None
    parts: Mapping[str, "Weights"] = field(default_factory=dict)


def fetch(weights: Weights, *, cache: str | Path | None = None) -> Path:
    """The local file of a record, downloaded at the first call and checked before it is kept.

    Args:
        weights: the record.
        cache: folder for downloads; by default what LEXISEG_CACHE names, else ~/.cache/lexiseg.

    Raises:
        ValueError: the file can only be had by hand, or its checksum is wrong.
        ConnectionError: the download failed.
    """
    if weights.asset is not None:
        return Path(str(files("lexiseg").joinpath("assets", weights.asset)))
    if weights.url is None or not weights.url.startswith("https://"):
        raise ValueError(
            f"these weights cannot be downloaded automatically; take them from {weights.origin} "
            "and pass the file's path"
        )
    target = cached_path(weights.url, weights.sha256, cache=cache)
    if not target.is_file():
        logger.info("downloading %s to %s", weights.url, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as temporary:
            _download(weights.url, weights.sha256, temporary, target)
    return target


def cached_path(url: str, sha256: str | None, *, cache: str | Path | None = None) -> Path:
    """Where a download is kept, whether it is there or not."""
    tag = sha256 or hashlib.sha256(url.encode()).hexdigest()
    return (Path(cache) if cache else cache_folder()) / tag[:16] / url.rsplit("/", 1)[-1]


def _download(url: str, sha256: str | None, temporary: Path, target: Path) -> None:
    digest = hashlib.sha256()
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer,
            temporary.open("wb") as file,
        ):
            while chunk := answer.read(2**20):
                digest.update(chunk)
                file.write(chunk)
    except (urllib.error.URLError, TimeoutError, http.client.HTTPException) as error:
        raise ConnectionError(
            f"could not download {url}: {error}; without a network, put the file at {target}"
        ) from error
    if sha256 is not None and digest.hexdigest() != sha256:
        raise ValueError(
            f"{url} gave a file with SHA-256 {digest.hexdigest()}, but {sha256} was published; "
            "it was not kept: try again, or report it if this repeats"
        )
