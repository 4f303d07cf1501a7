"""The image-text pairs in a tar of the webdataset form.

A sample is the members that share a key: the name up to the first dot after its folder. ``000.jpg``
and ``000.txt`` are one sample. The image is jpg, jpeg, png or webp; the caption is a txt, or the
"caption" of a json, which may list several. Names are only compared: they never reach the disk.
"""

import json
import logging
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

IMAGE_KINDS = ("jpg", "jpeg", "png", "webp")
TEXT_KINDS = ("txt", "json")  # the first that a sample has is taken
LARGEST_TEXT = 1 << 20
_COMPRESSED = {  # how such a file starts, and what unpacks it
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}
_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)  # key and kind, as webdataset has it
_BLOCK = 512
_logger = logging.getLogger(__name__)


def samples(path: Path) -> Iterator[tuple[str, list[str], tuple[int, int]]]:
    """The key, captions and image's place of each complete sample, in the images' order."""
    images: dict[str, tuple[int, tuple[int, int]]] = {}
    texts: dict[str, tuple[int, list[str]]] = {}
    seen: set[str] = set()
    for member, file in _members(path):
        named = _MEMBER.fullmatch(member.name)
        kind = named[2].lower() if named else ""
        if named is None or kind not in IMAGE_KINDS + TEXT_KINDS:
            continue
        key, where = named[1], f"{path}: {member.name!r}"
        if f"{key}.{kind}" in seen:
            raise ValueError(f"{where} is there twice; a sample has one member of a kind")
        seen.add(f"{key}.{kind}")
        if kind in IMAGE_KINDS:
            image = (IMAGE_KINDS.index(kind), (member.offset_data, member.size))
            images[key] = min(images.get(key, image), image)
        else:
            file.seek(member.offset_data)
            captions = _captions(file.read(min(member.size, LARGEST_TEXT + 1)), kind, where)
            text = (TEXT_KINDS.index(kind), captions)
            texts[key] = min(texts.get(key, text), text)
    whole = [key for key in images if key in texts and texts[key][1]]
    known = images.keys() | texts.keys()
    if 0 < len(whole) < len(known):
        _logger.warning(
            "%s: %d of %d samples have no image or no caption and are left out, one is %r",
            path,
            len(known) - len(whole),
            len(known),
            min(known.difference(whole)),
        )
    for key in whole:
        yield key, texts[key][1], images[key][1]


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """The plain files of a tar, with the tar opened for reading at any place."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        for magic, command in _COMPRESSED.items():
            if start.startswith(magic):
                raise ValueError(
                    f"{path} is compressed, and only a plain tar can be read at random places; "
                    f"unpack it first: {command} {path.name}"
                )
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    # Also guards tarfile, which follows a negative size backwards without end.
                    if not 0 <= member.size <= size - member.offset_data:
                        raise tarfile.ReadError(f"{member.name!r} goes beyond the end")
                    if member.isreg() and not member.issparse():
                        yield member, file
                end = tar.offset
        except tarfile.TarError as error:
            raise ValueError(f"{path} is cut off or damaged ({error}); get it anew") from error
        # tarfile takes a damaged header, or none, for the end: the real one is a block of zeros.
        file.seek(end)
        if file.read(_BLOCK) != bytes(_BLOCK):
            raise ValueError(
                f"{path} is cut off or damaged (no end, nor another member, at byte {end}); "
                "get it anew"
            )


def _captions(data: bytes, kind: str, where: str) -> list[str]:
    """The captions of a text member without those that are blank."""
    rule = 'a caption is a txt in UTF-8, or {"caption": text or list of texts} in a json'
    if len(data) > LARGEST_TEXT:
        raise ValueError(f"{where} is too large; {rule}, of at most {LARGEST_TEXT} bytes")
    try:
        text = data.decode("utf-8-sig")
        found = text if kind == "txt" else json.loads(text).get("caption")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{where} cannot be read ({error}); {rule}") from error
    listed = [found or ""] if found is None or isinstance(found, str) else found
    if not (isinstance(listed, list) and all(isinstance(caption, str) for caption in listed)):
        raise ValueError(f"{where} has another kind of caption; {rule}")
    return [caption.strip() for caption in listed if caption.strip()]
