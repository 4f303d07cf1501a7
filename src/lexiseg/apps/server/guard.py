"""What every request passes before and after its endpoint: id, key, size, errors, counting."""

import asyncio
import base64
import binascii
import contextlib
import hmac
import json
import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lexiseg.apps.server.metrics import Metrics
from lexiseg.apps.server.settings import MEGABYTE, Refusal, Settings

OPEN_PATHS = ("/health", "/ready", "/favicon.ico")
_DRAIN_SECONDS = 2.0
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = logging.getLogger(__name__)


def problem(refusal: Refusal) -> Response:
    """A refusal as JSON."""
    body = json.dumps({"code": refusal.code, "message": refusal.message}, ensure_ascii=False)
    return Response(
        body.encode("utf-8", "backslashreplace"),
        status_code=refusal.status,
        headers=refusal.headers,
        media_type="application/json",
    )


class Guard:
    """Middleware around the whole application.

    A body is counted as it streams in, so that the limit holds whatever its headers say.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, began = Headers(scope=scope), time.monotonic()
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status = 0
        body = _Limited(receive, self.settings.max_body)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 400 and "expect" not in headers:
                    await body.drain()
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            self._check(scope["path"], headers)
            await self.app(scope, body, answer)
        except Refusal as refusal:
            if not status:
                await problem(refusal)(scope, receive, answer)
        except Exception:
            _log.exception("request %s failed", request_id)
            if not status:
                message = f"the server failed; its log has details under {request_id}"
                await problem(Refusal(500, "internal", message))(scope, receive, answer)
        finally:
            taken = time.monotonic() - began
            path = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(taken)
            _log.info("%s %s %s %d %.3f s", request_id, scope["method"], path, status, taken)

    def _check(self, path: str, headers: Headers) -> None:
        if path not in OPEN_PATHS and not self._is_let_in(headers):
            scheme = "Basic" if path.startswith("/demo") else "Bearer"  # a browser asks for Basic
            raise Refusal(
                401,
                "unauthorized",
                "give the server's key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                {"WWW-Authenticate": f'{scheme} realm="lexiseg"'},
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self.settings.max_body:
            raise too_large(self.settings.max_body)

    def _is_let_in(self, headers: Headers) -> bool:
        if self.settings.api_key is None:
            return True
        expected = self.settings.api_key.encode()
        scheme, _, value = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key", "").encode("latin-1")
        if scheme.lower() == "bearer":
            given = value.strip().encode("latin-1")
        elif scheme.lower() == "basic":
            given = _password(value)
        return hmac.compare_digest(given, expected)


class _Limited:
    """Receives a body, so far as it is not too large."""

    def __init__(self, receive: Receive, max_body: int) -> None:
        self._receive, self._max_body = receive, max_body
        self._seen, self._ended = 0, False

    async def __call__(self) -> Message:
        message = await self._next()
        if self._seen > self._max_body:
            raise too_large(self._max_body)
        return message

    async def drain(self) -> None:
        """Reads on for a moment: a client that is cut off while it sends reads no answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._ended and self._seen <= 2 * self._max_body:
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        return message


def too_large(max_body: int) -> Refusal:
    """The refusal of a body beyond the limit."""
    message = f"the request is larger than {max_body / MEGABYTE:g} MB; send a smaller picture"
    return Refusal(413, "body_too_large", message, {"Connection": "close"})


def _password(value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""
