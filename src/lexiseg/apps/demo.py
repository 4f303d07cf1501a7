"""A page in the browser: a photo, words or a sentence, and what each model makes of them.

What a user types reaches the page escaped, and nothing on the page comes from another host.
"""

import html
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from fastapi.responses import FileResponse
from gradio_client.utils import is_http_url_like

from lexiseg.apps.results import legend, shrunk, tinted, told
from lexiseg.apps.server.service import Service, reads_sentences
from lexiseg.apps.server.settings import Refusal
from lexiseg.referral import Referral
from lexiseg.result import Segmentation

WORDS, SENTENCE = "words", "a sentence"
_READ, _AS_LABEL, _NOT_TAKEN = "read", "taken for a label", "not taken"
NO_MODEL = "no other"
_MAPS, _KEPT_SECONDS = 24, 3600
_FILES = Path(__file__).with_name("page")
_POINTED = '<output id="pointed">point at the mask, or move the cross on it by arrow keys</output>'


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
        """Mask, second mask, legend, files, and what is told."""
        names = [model] if other in (NO_MODEL, model) else [model, other]
        try:
            image = _photo(photo)
            results = [self._ask(image, kind, words, name) for name in names]
        except (Refusal, ValueError, TimeoutError) as error:
            nothing = gr.update(value=None)
            return [nothing, gr.update(value=None, visible=False), "", nothing, told(error)]
        pictures = [tinted(result) for result in results]
        second = pictures[1] if len(pictures) > 1 else None
        return [
            pictures[0],
            gr.update(value=second, visible=second is not None, label=f"Mask by {other}"),
            "".join(
                legend(self._title(name, kind), result, place=place)
                for name, result, place in zip(names, results, ("result", "second"), strict=False)
            ),
            self._files(results[0]),
            "",
        ]

    def explain(self, photo: str | None, kind: str, words: str, model: str) -> tuple[Any, str]:
        """Maps of the steps of a model, and what is told."""
        labels = [words] if kind == SENTENCE else words
        try:
            image = _photo(photo)
            explanation = self._wait(lambda: self.service.explain(image, labels, model))
        except (Refusal, ValueError, TimeoutError) as error:
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

    def who_reads(self) -> str:
        """Which models are for sentences, as markup."""
        kinds: dict[str, list[str]] = {_READ: [], _AS_LABEL: [], _NOT_TAKEN: []}
        for name, segmenter in self.service.segmenters.items():
            kinds[_reading(segmenter)].append(html.escape(name))
        kinds[_READ] = kinds[_READ] or ["models of CRIS (none is here)"]
        parts = [f"{kind} by {', '.join(names)}" for kind, names in kinds.items() if names]
        return f"<p>A sentence is {'; '.join(parts)}.</p>"

    def _title(self, name: str, kind: str) -> str:
        """The model, and that it does not read sentences where one came."""
        reading = _reading(self.service.segmenters[name])
        return name if kind == WORDS or reading == _READ else f"{name} (sentence {reading})"

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
            asked, go = _question(models, page.who_reads(), examples)
            with gr.Column(min_width=280):
                message = gr.HTML(elem_id="told")
                mask = gr.Image(
                    label="Mask", interactive=False, format="png", elem_id="result", buttons=[]
                )
                gr.HTML(_POINTED)
                legend_box = gr.HTML(elem_id="legend")
                second = gr.Image(
                    interactive=False, visible=False, format="png", elem_id="second", buttons=[]
                )
                files = gr.File(
                    label="Files", file_count="multiple", interactive=False, elem_id="files"
                )
        with gr.Accordion("What the model saw", open=False, elem_id="saw"):
            look = gr.Button("Show the steps", elem_id="look")
            maps = gr.Gallery(
                label="Steps", columns=3, interactive=False, buttons=[], elem_id="steps"
            )
        answers = [mask, second, legend_box, files, message]
        for event in (go.click, asked[2].submit):
            event(page.run, asked, answers, api_visibility="private", concurrency_limit=4)
        look.click(page.explain, asked[:4], [maps, message], api_visibility="private")
    for block in blocks.blocks.values():
        _fetch_nothing(block)
    return blocks


def _question(
    models: Sequence[str], readers: str, examples: Sequence[Path]
) -> tuple[list[Any], Any]:
    """The left column: photo, kind of words, words, model, other model; and the button."""
    with gr.Column(min_width=280):
        photo = gr.Image(
            label="Photo", type="filepath", sources=["upload", "clipboard"], height=300
        )
        # The library's own reader, with its limits, is the only one that opens the file.
        photo.preprocess = _path_of  # type: ignore[method-assign]
        if examples:
            gr.Examples([str(path) for path in examples], photo, label="Photos to try")
        kind = gr.Radio([WORDS, SENTENCE], value=WORDS, label="Look for", elem_id="kind")
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
        gr.HTML(readers, elem_id="readers")
        go = gr.Button("Segment", variant="primary", elem_id="go")
    return [photo, kind, words, model, other], go


def mount_demo(app: FastAPI, *, examples: Sequence[Path] = ()) -> FastAPI:
    """Puts the page at /demo of a server, with that server's queue, limits and key.

    Args:
        app: what :func:`lexiseg.apps.server.create_app` made.
        examples: photos to begin with.
    """
    service: Service = app.state.service

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> FileResponse:
        return FileResponse(_FILES / "icon.svg", media_type="image/svg+xml")

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
        css_paths=_FILES / "page.css",
        head=f"<script>{(_FILES / 'pointer.js').read_text(encoding='utf-8')}</script>",
    )


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


def _reading(segmenter: Any) -> str:
    """What happens to a sentence."""
    if reads_sentences(segmenter):
        return _READ
    return _AS_LABEL if hasattr(segmenter, "refer") else _NOT_TAKEN
