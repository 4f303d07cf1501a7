"""A page in the browser: a photo, words or a sentence, and what each model makes of them.

What a user types reaches the page escaped, and nothing on the page comes from another host.
"""

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio_client.utils import is_http_url_like

from lexiseg.apps.results import Shown, legend, shown, shrunk, tinted, told
from lexiseg.apps.server.service import Service
from lexiseg.apps.server.settings import Refusal
from lexiseg.pictures import ImageError
from lexiseg.referral import Referral
from lexiseg.result import Segmentation

WORDS, SENTENCE = "words", "a sentence"
NO_MODEL = "no other"
_MAPS = 24
_KEPT_SECONDS = 3600
_CSS = """
.gradio-container {max-width: 1100px !important; overflow-wrap: anywhere}
#legend ul {list-style: none; padding: 0; margin: 0}
#legend .colour {display: inline-block; width: 1em; height: 1em; margin-right: .5em}
#told p {margin: 0; font-weight: 600}
#result img {cursor: crosshair}
"""


class Page:
    """What the page does when a button is pressed."""

    def __init__(self, service: Service, folder: Path) -> None:
        """Starts nothing.

        Args:
            service: whose queue and limits hold here too.
            folder: for the files that are offered.
        """
        self.service, self.folder = service, folder

    def run(self, photo: str | None, kind: str, words: str, model: str, other: str) -> list[Any]:
        """Mask, second mask, legend, files, what is kept, and what is told."""
        try:
            image = _photo(photo)
            results = [self._ask(image, kind, words, name) for name in _chosen(model, other)]
        except (Refusal, ImageError, TimeoutError) as error:
            nothing = gr.update(value=None)
            return [nothing, gr.update(value=None, visible=False), "", nothing, None, told(error)]
        pictures = [tinted(result) for result in results]
        second = pictures[1] if len(pictures) > 1 else None
        return [
            pictures[0],
            gr.update(value=second, visible=second is not None, label=f"Mask by {other}"),
            "".join(
                legend(name, result)
                for name, result in zip(_chosen(model, other), results, strict=True)
            ),
            self._files(results[0]),
            shown(results[0]),
            "",
        ]

    def explain(self, photo: str | None, kind: str, words: str, model: str) -> tuple[Any, str]:
        """Maps of the steps of a model, and what is told."""
        labels = [words] if kind == SENTENCE else words
        try:
            image = _photo(photo)
            explanation = self._wait(lambda: self.service.explain(image, labels, model))
        except (Refusal, ImageError, TimeoutError) as error:
            return None, told(error)
        pairs = [
            (number, label, step.name)
            for number, step in enumerate(explanation.views)
            for label in step.regions or explanation.labels
        ]
        return [
            (shrunk(explanation.plot(number, label)), f"{step}: {label}")
            for number, label, step in pairs[:_MAPS]
        ], ""

    def _ask(self, image: bytes, kind: str, words: str, model: str) -> Segmentation | Referral:
        if kind == SENTENCE:
            return self._wait(lambda: self.service.refer(image, [words], None, model)[1])
        return self._wait(lambda: self.service.segment(image, words, None, model)[1])

    def _wait(self, submit: Callable[[], "Future[Any]"]) -> Any:
        with self.service.admitted():
            future = submit()
            try:
                return future.result(self.service.settings.timeout)
            except TimeoutError:
                future.cancel()
                raise

    def _files(self, result: Segmentation | Referral) -> list[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=self.folder))
        if isinstance(result, Segmentation):
            formats = ("labels", "overlay", "coco", "confidence")
            return [str(path) for path in result.save(place, "photo", formats=formats).values()]
        return [str(path) for path in result.save(place, "photo").values()]


def create_demo(service: Service, *, examples: Sequence[Path] = ()) -> gr.Blocks:
    """The page.

    Args:
        service: whose models it offers.
        examples: photos to begin with.
    """
    models = list(service.segmenters)
    with gr.Blocks(
        title="lexiseg", analytics_enabled=False, delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)
    ) as blocks:
        page = Page(service, Path(blocks.GRADIO_CACHE) / "lexiseg")
        gr.Markdown("# lexiseg\nDrop a photo, say what to look for.")
        with gr.Row():
            with gr.Column(min_width=280):
                photo = gr.Image(
                    label="Photo", type="filepath", sources=["upload", "clipboard"], height=300
                )
                # The library's own reader, with its limits, is the only one that opens the file.
                photo.preprocess = _path_of  # type: ignore[method-assign]
                if examples:
                    gr.Examples([str(path) for path in examples], photo, label="Photos to try")
                kind = gr.Radio([WORDS, SENTENCE], value=WORDS, label="Look for")
                words = gr.Textbox(
                    label="Words or sentence",
                    info="dog, grass, sofa|couch (commas between labels, bars between synonyms)",
                    max_length=100_000,
                    max_lines=4,
                    elem_id="words",
                )
                model = gr.Dropdown(models, value=models[0], label="Model", filterable=False)
                other = gr.Dropdown(
                    [NO_MODEL, *models], value=NO_MODEL, label="Compare with", filterable=False
                )
                go = gr.Button("Segment", variant="primary", elem_id="go")
            with gr.Column(min_width=280):
                message = gr.HTML(elem_id="told")
                mask = gr.Image(
                    label="Mask", interactive=False, format="png", elem_id="result", buttons=[]
                )
                pointed = gr.Textbox(
                    label="Under the pointer", interactive=False, placeholder="click on the mask"
                )
                legend_box = gr.HTML(elem_id="legend")
                second = gr.Image(
                    interactive=False, visible=False, format="png", elem_id="second", buttons=[]
                )
                files = gr.File(label="Files", file_count="multiple", interactive=False)
        with gr.Accordion("What the model saw", open=False):
            look = gr.Button("Show the steps", elem_id="look")
            maps = gr.Gallery(label="Steps", columns=3, interactive=False, buttons=[])
        kept = gr.State(None, time_to_live=_KEPT_SECONDS)
        asked = [photo, kind, words, model, other]
        answers = [mask, second, legend_box, files, kept, message]
        for event in (go.click, words.submit):
            event(page.run, asked, answers, api_visibility="private", concurrency_limit=4)
        look.click(page.explain, asked[:4], [maps, message], api_visibility="private")
        mask.select(under_pointer, kept, pointed, api_visibility="private", show_progress="hidden")
    for block in blocks.blocks.values():
        _fetch_nothing(block)
    return blocks


def mount_demo(app: FastAPI, *, examples: Sequence[Path] = ()) -> FastAPI:
    """Puts the page at /demo of a server, with that server's queue, limits and key.

    Args:
        app: what :func:`lexiseg.apps.server.create_app` made.
        examples: photos to begin with.
    """
    service: Service = app.state.service
    return gr.mount_gradio_app(
        app,
        create_demo(service, examples=examples),
        "/demo",
        footer_links=[],
        show_error=False,
        max_file_size=service.settings.max_body,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(
            font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
            font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
        ),
        css=_CSS,
    )


def under_pointer(kept: Shown | None, event: gr.SelectData) -> str:
    """What is where the mask was clicked."""
    return "" if kept is None else kept.at(int(event.index[0]), int(event.index[1]))


def _fetch_nothing(block: Any) -> None:
    """Gradio would download what a client names by its address; here that is refused."""
    move = block.async_move_resource_to_block_cache

    async def move_files(source: Any) -> str | None:
        if is_http_url_like(str(source)):
            raise ValueError("an address came; this server fetches nothing, send the file itself")
        moved: str | None = await move(source)
        return moved

    block.async_move_resource_to_block_cache = move_files


def _path_of(payload: Any) -> str | None:
    return None if payload is None else str(payload.path)


def _photo(path: str | None) -> bytes:
    if path is None:
        raise Refusal(422, "invalid_image", "no photo yet; drop one, or choose one to try")
    return Path(path).read_bytes()


def _chosen(model: str, other: str) -> list[str]:
    return [model] if other in (NO_MODEL, model) else [model, other]
