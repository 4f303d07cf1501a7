"""Reading the body of a request: JSON with the picture in base64, or a form with a file."""

import base64
import binascii
import re
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from lexiseg.apps.server.settings import Refusal, Settings

Body = TypeVar("Body", bound=BaseModel)

_ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:")
_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w.+/=-]+)*?;base64,")
_ERRORS_SHOWN = 3


async def read_body(
    request: Request, kind: type[Body], settings: Settings, *, lists: tuple[str, ...] = ()
) -> tuple[Body, bytes]:
    """The fields of a request, and its picture.

    Args:
        request: whose body is JSON or a form.
        kind: the fields that are allowed.
        settings: the limits.
        lists: fields that a form may have several times.

    Raises:
        Refusal: it is not as it must be.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        asked = _validated(kind, await request.body())
        return asked, _decoded(getattr(asked, "image", ""))
    if content_type == "multipart/form-data":
        fields, image = await _read_form(request, settings, lists)
        return _validated(kind, {**fields, "image": "-"}), image
    raise Refusal(
        415,
        "unsupported_media_type",
        "send application/json, or multipart/form-data with the picture as the file 'image'",
    )


def _validated(kind: type[Body], given: bytes | dict[str, Any]) -> Body:
    try:
        if isinstance(given, bytes):
            return kind.model_validate_json(given)
        return kind.model_validate(given)
    except ValidationError as error:
        told = []
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            place = f"{each['loc'][0]}: " if each["loc"] else ""
            told.append(f"{place}{each['msg']}"[:300])
        shown = "; ".join(dict.fromkeys(told[:_ERRORS_SHOWN]))
        raise Refusal(422, "invalid_request", shown) from error


def _decoded(image: str) -> bytes:
    data_url = _DATA_URL.match(image[:200])
    if data_url is not None:
        image = image[data_url.end() :]
    elif _ADDRESS.match(image[:100]):
        raise _address()
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(422, "invalid_image", "image: is not base64 of a file") from error


def _address() -> Refusal:
    message = "image: is an address; this server fetches nothing, send the file itself"
    return Refusal(422, "url_refused", message)


class _InMemory(MultiPartParser):
    """Uploads stay in memory, whose size is bounded by the body's: the disk may be read-only."""

    spool_max_size = 0  # of a SpooledTemporaryFile this means: never to disk


async def _read_form(
    request: Request, settings: Settings, lists: tuple[str, ...]
) -> tuple[dict[str, Any], bytes]:
    parser = _InMemory(
        request.headers,
        request.stream(),
        max_files=1,
        max_fields=settings.max_expressions + 8,
        max_part_size=settings.max_body,
    )
    try:
        form = await parser.parse()
    except Refusal:
        raise
    except (MultiPartException, ValueError, KeyError) as error:
        message = f"the form cannot be read ({getattr(error, 'message', 'it is malformed')})"
        raise Refusal(422, "invalid_request", message) from error
    fields: dict[str, Any] = {}
    image = None
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                if name != "image":
                    raise Refusal(422, "invalid_request", f"{name[:50]}: is not a file here")
                image = await value.read()
            elif name == "image":
                raise _address() if _ADDRESS.match(value[:100]) else _no_file()
            elif name in lists:
                fields.setdefault(name, []).append(value)
            elif name in fields:
                raise Refusal(422, "invalid_request", f"{name[:50]}: came twice")
            else:
                fields[name] = value
    finally:
        await form.close()
    if image is None:
        raise _no_file()
    return fields, image


def _no_file() -> Refusal:
    return Refusal(422, "invalid_image", "image: send the picture as a file, with a file name")
