"""Weights on the Hugging Face hub: from there into its cache, and from a file to there.

A repository holds ``model.safetensors``, whose metadata names the model, and its card. What
huggingface_hub reads from the environment works here too: HF_HOME, HF_TOKEN, HF_HUB_OFFLINE and
HF_ENDPOINT.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from lexiseg._extras import need
from lexiseg.weights import read_metadata

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_address(name: str) -> bool:
    """Whether a name means a repository on the hub."""
    return name.startswith("hf:")


def parse(address: str) -> tuple[str, str | None]:
    """The repository and the revision of ``hf:OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.

    Raises:
        ValueError: it is no such address.
    """
    repository, at, revision = address.removeprefix("hf:").removeprefix("//").partition("@")
    _check_repository(repository, address)
    if at and not revision:
        raise ValueError(f"{address!r} ends where a revision should come; leave out the @")
    return repository, revision or None


def download(address: str) -> Path:
    """The weights of a repository, from the cache where they are in it.

    Args:
        address: ``hf:OWNER/NAME`` or ``hf://OWNER/NAME``, and ``@REVISION`` (a branch, a tag or a
            commit) for another than the newest.

    Returns:
        A file that has the checksum the hub states for it. Where a file system has no links
        (some of Windows), the cache does not keep that checksum, and the size alone was checked.

    Raises:
        ValueError: no such repository, revision or file, or the file's checksum is wrong.
        ConnectionError: the hub cannot be reached or broke off, and the cache lacks the file.
        ImportError: huggingface_hub is not installed.
    """
    repository, revision = parse(address)
    hub = need("huggingface_hub", extra="hub", purpose="The Hugging Face hub")
    with _told_in_a_line(hub, address):
        path = Path(
            hub.hf_hub_download(repository, WEIGHTS_FILE, revision=revision, library_name="lexiseg")
        )
    _verify(path, address)
    return path


def push_to_hub(
    path: str | os.PathLike[str],
    repository: str,
    *,
    private: bool = False,
    message: str = "Upload weights with lexiseg",
) -> str:
    """Put weights and their card into a repository, which is made if need be.

    Args:
        path: a file of ``lexiseg export-weights``, its card beside it.
        repository: OWNER/NAME, or hf:OWNER/NAME; you must be logged in (``hf auth login``, or
            HF_TOKEN).
        private: whether a new repository is shown to nobody else.
        message: of the commit.

    Returns:
        The page of the commit.

    Raises:
        ValueError: there are no weights of a model at ``path``, no card beside them, or the
            repository's name cannot be.
        ConnectionError: the hub cannot be reached or refuses.
        ImportError: huggingface_hub is not installed.
    """
    address = repository
    repository, revision = parse(address)
    if revision is not None:
        raise ValueError(f"{address!r} names a revision; weights are put on the main one")
    path = Path(path)
    card = path.with_suffix(".md")
    if not path.is_file() or "model" not in read_metadata(path):
        raise ValueError(f"{path} holds no weights that name their model; lexiseg export-weights")
    if not card.is_file():
        raise ValueError(f"{card} is missing, the card of {path.name}; lexiseg export-weights")
    hub = need("huggingface_hub", extra="hub", purpose="The Hugging Face hub")
    api = hub.HfApi(library_name="lexiseg")
    with _told_in_a_line(hub, repository):
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.create_commit(
            repository,
            [
                hub.CommitOperationAdd(path_in_repo=WEIGHTS_FILE, path_or_fileobj=path),
                hub.CommitOperationAdd(path_in_repo=CARD_FILE, path_or_fileobj=card),
            ],
            commit_message=message,
        )
    return str(commit.commit_url)


def _check_repository(repository: str, came: str) -> None:
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise ValueError(f"{came!r} names no repository of the hub; write hf:OWNER/NAME")


def _verify(path: Path, address: str) -> None:
    """Compare a file with the checksum that the hub's cache keeps as the name of what it holds.

    A file that differs is taken out of the cache, so that it is downloaded again the next time.
    """
    blob = path.parent / path.readlink() if path.is_symlink() else path
    expected = blob.name
    if not _SHA256.fullmatch(expected):
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == expected:
        return
    for part in (path.resolve(), blob, path):
        part.unlink(missing_ok=True)
    raise ValueError(
        f"{address}: {WEIGHTS_FILE} has SHA-256 {found}, but the hub states {expected}; it was "
        "not kept: try again, or report it if this repeats"
    )


@contextmanager
def _told_in_a_line(hub: ModuleType, what: str) -> Iterator[None]:
    """The hub's errors as one line each."""
    errors = need("huggingface_hub.errors", extra="hub", purpose="The Hugging Face hub")
    broken = (OSError, RuntimeError, *errors.HfHubHTTPError.__bases__)  # httpx's of any version
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{what}: no such repository, or not one for you; check the name, or log in with "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{what}: the repository has no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        why = "offline mode is on" if hub.constants.HF_HUB_OFFLINE else "the hub does not answer"
        raise ConnectionError(f"{what}: it is not in the cache, and {why}") from error
    except errors.EntryNotFoundError as error:
        raise ValueError(f"{what}: the repository has no {WEIGHTS_FILE}") from error
    except broken as error:
        raise ConnectionError(f"{what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # "Error while uploading"
        return _reason(error.__cause__)
    return " ".join(str(error).split()) or type(error).__name__
