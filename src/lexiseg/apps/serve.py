"""``lexiseg serve`` and ``lexiseg demo``: models over HTTP, and a page for them."""

import ipaddress
import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.terminal import fail, misuse, note, package

DEFAULT_MODELS = ["catseg_lite", "cris_lite"]  # those of them that are bundled


def serve(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="Name of a model, ARCH=FILE, FILE.safetensors or hf:OWNER/NAME; repeatable, the "
            "first answers where a request names none; /refer has the first that reads sentences.  "
            "[default: catseg_lite, cris_lite]",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the key that clients must show."),
    ] = None,
    with_demo: Annotated[
        bool, typer.Option("--demo", help="Also show the page at /demo; needs the extra `demo`.")
    ] = False,
) -> None:
    """Answer /segment and /refer over HTTP; needs the extra `serve`.

    Nothing is fetched, whatever a request says. SIGTERM lets running requests finish for 10 s.
    Exit codes: 1 it failed, 2 wrong use.
    """
    key = _read_key(api_key_file)
    uvicorn = _server_packages()
    from lexiseg.apps.server import Settings, create_app

    try:
        settings = Settings(api_key=key)
    except ValueError as error:
        misuse(str(error))
    if with_demo:
        _page_packages()
    app = create_app({name: load_segmenter(name) for name in models or bundled()}, settings)
    if with_demo:
        mount_page(app)
    if key is None and not _is_loopback(host):
        note(f"warning: anyone who reaches {host} may use this server; see --api-key-file")
    run(uvicorn, app, host, port)


def demo(
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="As for `serve`, repeatable.  [default: catseg_lite, cris_lite]"
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of 127.0.0.1.")] = 7860,
) -> None:
    """Show a page in the browser: drop a photo, type words; needs the extra `demo`.

    It works offline and is for this machine alone; for others, `lexiseg serve --demo` takes a key.
    Exit codes: 1 it failed, 2 wrong use.
    """
    uvicorn = _server_packages("demo")
    _page_packages()
    from lexiseg.apps.server import create_app

    app = create_app({name: load_segmenter(name) for name in models or bundled()})
    mount_page(app)
    note(f"open http://127.0.0.1:{port}/demo in a browser; Ctrl+C ends")
    run(uvicorn, app, "127.0.0.1", port)


def mount_page(app: Any) -> None:
    """Puts the page at /demo, with the repository's photos to try where they are here."""
    from lexiseg.apps.demo import mount_demo

    photos = Path("examples/photos")
    mount_demo(app, examples=sorted(photos.glob("*.jpg")))


def bundled() -> list[str]:
    """The default models, so far as their weights are here."""
    from lexiseg.registry import registered, weights_of

    return [name for name in DEFAULT_MODELS if name in registered() and weights_of(name)]


def run(uvicorn: Any, app: Any, host: str, port: int) -> None:
    """Serves until a signal comes, then lets what runs finish; ends where it cannot listen.

    Args:
        uvicorn: the package.
        app: the application.
        host: to listen on.
        port: to listen on.
    """
    from lexiseg.apps.server.app import STOP_SECONDS

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        uvicorn.run(
            app,
            host=host,
            port=port,
            access_log=False,  # the guard writes a line for each request, with its id
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    except SystemExit:  # it could not listen, and its log says why
        fail(f"no server at {host}, port {port}; give another --host or --port")


def _server_packages(extra: str = "serve") -> Any:
    """Uvicorn, if all that a server needs is installed."""
    for name in ("fastapi", "prometheus_client", "python_multipart"):
        package(name, extra=extra, purpose="the server")
    return package("uvicorn", extra=extra, purpose="the server")


def _page_packages() -> None:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when it is imported
    package("gradio", extra="demo", purpose="the page")


def _read_key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        misuse(f"{file}: cannot be read as a key ({getattr(error, 'strerror', None) or error})")
    if len(key) < 16:  # an empty file must not open the door
        misuse(f"{file}: the key has {len(key)} characters; give at least 16")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
