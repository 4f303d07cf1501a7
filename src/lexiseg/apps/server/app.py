"""The application: endpoints, and what they say when they cannot answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response

import lexiseg
from lexiseg.apps.server import answers
from lexiseg.apps.server.bodies import read_body
from lexiseg.apps.server.guard import Guard, problem
from lexiseg.apps.server.schema import (
    ModelRow,
    Models,
    Problem,
    ReferAnswer,
    ReferRequest,
    SegmentAnswer,
    SegmentRequest,
    State,
    request_body,
)
from lexiseg.apps.server.service import Service
from lexiseg.apps.server.settings import Refusal, Settings
from lexiseg.pictures.reading import ImageError

STOP_SECONDS = 10  # for what runs when the server stops
_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The key is missing or wrong."},
    408: {"model": Problem, "description": "The body came too slowly."},
    413: {"model": Problem, "description": "The body is too large."},
    415: {"model": Problem, "description": "The body is neither JSON nor a form."},
    422: {"model": Problem, "description": "The picture or a field is not as it must be."},
    429: {
        "model": Problem,
        "description": "The queue is full.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    },
    500: {"model": Problem, "description": "The server failed; its log has details."},
    503: {"model": Problem, "description": "The server starts or stops."},
    504: {"model": Problem, "description": "The result took too long."},
}
_PNG = {"image/png": {"schema": {"type": "string", "format": "binary"}}}


def create_app(segmenters: Mapping[str, Any] | Any, settings: Settings | None = None) -> FastAPI:
    """A server of one or several segmenters.

    Args:
        segmenters: by the names under which clients ask for them, the default first; or one, which
            is then called "default".
        settings: limits and key.
    """
    settings = settings or Settings()
    named = segmenters if isinstance(segmenters, Mapping) else {"default": segmenters}
    service = Service(named, settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await anyio.to_thread.run_sync(service.worker.stop, float(STOP_SECONDS))

    app = FastAPI(
        title="lexiseg",
        version=lexiseg.__version__,
        description="Segment pictures by text.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    needs_key = [Security(HTTPBearer(auto_error=False))] if settings.api_key else []  # told only
    app.include_router(_results(service), dependencies=needs_key)
    app.include_router(_models(service), dependencies=needs_key)
    app.include_router(_states(service))
    app.add_middleware(Guard, settings=settings, metrics=service.metrics)
    _refuse(app)
    return app


def _results(service: Service) -> APIRouter:
    """The endpoints that run a model."""
    router = APIRouter(responses=_REFUSALS)

    @router.post(
        "/segment",
        response_model=SegmentAnswer,
        responses={200: {"content": _PNG, "description": "JSON; by Accept the label map alone."}},
        openapi_extra={"requestBody": request_body(SegmentRequest)},
    )
    async def segment(request: Request) -> Response:
        """Give each pixel the label that fits it best."""

        async def ask() -> tuple["Future[Any]", Callable[[Any], Response]]:
            asked, image = await read_body(request, SegmentRequest, service.settings)
            labels, background = asked.labels, asked.background
            name, future = service.segment(image, labels, background, asked.model)
            if answers.wants_png(request):
                return future, lambda result: answers.png(answers.label_png(result))
            return future, lambda result: answers.segmented(name, result, asked.format)

        return await _answer(service, ask)

    @router.post(
        "/refer",
        response_model=ReferAnswer,
        responses={
            200: {"content": _PNG, "description": "JSON; by Accept the mask of one expression."}
        },
        openapi_extra={"requestBody": request_body(ReferRequest)},
    )
    async def refer(request: Request) -> Response:
        """Find what each expression names, each by itself."""

        async def ask() -> tuple["Future[Any]", Callable[[Any], Response]]:
            asked, image = await read_body(
                request, ReferRequest, service.settings, lists=("expressions",)
            )
            as_png = answers.wants_png(request)
            if as_png and len(asked.expressions) > 1:
                message = "image/png has one mask; send one expression, or accept JSON"
                raise Refusal(422, "invalid_expressions", message)
            background, words = asked.background, asked.expressions
            name, future = service.refer(image, words, background, asked.model)
            if as_png:
                return future, lambda result: answers.png(answers.mask_png(result.masks[0]))
            return future, lambda result: answers.referred(name, result, asked.format)

        return await _answer(service, ask)

    return router


async def _answer(
    service: Service, ask: Callable[[], Awaitable[tuple["Future[Any]", Callable[[Any], Response]]]]
) -> Response:
    """Reads a request, waits for its result and writes it down, within the limits of time."""
    settings = service.settings
    with service.admitted():
        try:
            async with asyncio.timeout(settings.timeout):
                try:
                    async with asyncio.timeout(settings.upload_timeout):
                        future, write = await ask()
                except TimeoutError as error:
                    message = f"the body did not arrive within {settings.upload_timeout:g} s"
                    raise Refusal(408, "upload_timeout", message) from error
                result = await asyncio.wrap_future(future)
                return await anyio.to_thread.run_sync(write, result, abandon_on_cancel=True)
        except TimeoutError as error:
            message = f"there was no result within {settings.timeout:g} s"
            raise Refusal(504, "timeout", message) from error
        except ImageError as error:
            raise Refusal(422, "invalid_image", str(error)) from error


def _models(service: Service) -> APIRouter:
    router = APIRouter(responses={401: _REFUSALS[401], 500: _REFUSALS[500]})

    @router.get("/models")
    async def models() -> Models:
        """Which models there are."""
        rows = [
            ModelRow(name=name, default=index == 0, refers=hasattr(segmenter, "refer"))
            for index, (name, segmenter) in enumerate(service.segmenters.items())
        ]
        return Models(models=rows)

    @router.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(
            generate_latest(service.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return router


def _states(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/health", responses={500: _REFUSALS[500]})
    async def health() -> State:
        """Whether the process answers."""
        return State(status="ok")

    @router.get("/ready", responses={500: _REFUSALS[500], 503: _REFUSALS[503]})
    async def ready() -> State:
        """Whether a picture that comes now would be looked at."""
        if not service.worker.alive:
            raise Refusal(503, "not_ready", "the model thread does not run")
        return State(status="ok")

    return router


def _refuse(app: FastAPI) -> None:
    """Every error as the same JSON."""

    @app.exception_handler(Refusal)
    async def refusal(_: Request, error: Refusal) -> Response:
        return problem(error)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        known = {404: "not_found", 405: "method_not_allowed"}
        code = known.get(error.status_code, "http_error")
        headers = dict(error.headers or {})
        return problem(Refusal(error.status_code, code, str(error.detail), headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return problem(Refusal(422, "invalid_request", f"{len(error.errors())} fields are wrong"))
