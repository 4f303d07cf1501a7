"""The command line: parse, call the library, show. Torch is loaded only where a model is needed."""

import io
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.data import app as data
from lexiseg.apps.evaluate import evaluate
from lexiseg.apps.files import expand, output_names
from lexiseg.apps.refer import refer
from lexiseg.apps.terminal import (
    FAILED,
    complain,
    echo,
    echo_json,
    load_segmenter,
    make_folder,
    misuse,
    print_table,
    progress,
    reason,
)
from lexiseg.apps.train import train
from lexiseg.apps.weights import export_weights, push_to_hub

DEFAULT_MODEL = "catseg_lite"
DEFAULT_FOLDER = Path("lexiseg_out")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


app.add_typer(data, name="data")
app.command(epilog="Example: `lexiseg evaluate catseg_lite maskclip_lite my_photos --split val`")(
    evaluate
)
app.command(
    epilog='Example: `lexiseg refer photo.jpg "the dog on the left" --model cris_r50=cris.pth`'
)(refer)
app.command(epilog="Example: `lexiseg train catseg_lite --data photos --out runs/catseg_lite`")(
    train
)
app.command(
    epilog="Example: `lexiseg export-weights runs/own mine.safetensors --licence cc-by-4.0`"
)(export_weights)
app.command(epilog="Example: `lexiseg push-to-hub mine.safetensors me/mine`")(push_to_hub)


def main() -> None:
    """The ``lexiseg`` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a label must never be what a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except OSError as error:
        complain(f"the output could not be written ({error.strerror or error})")
        sys.exit(FAILED)


@app.callback(epilog='Example: `lexiseg segment photo.jpg --labels "dog, grass, sofa|couch"`')
def lexiseg() -> None:
    """Segment images by text."""


@app.command(
    epilog='Example: `lexiseg segment photo.jpg holiday/ --labels "dog, grass, sofa|couch"`'
)
def segment(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO...", help="Pictures, or folders of pictures.")
    ],
    labels: Annotated[
        str,
        typer.Option(
            help="Labels between commas, synonyms between bars; or a standard list, such as voc20, "
            "coco80, ade150, pc59, stuff171, cityscapes19."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Name of a model; `lexiseg models` lists them. Or ARCH=FILE, FILE.safetensors, "
            "hf:OWNER/NAME."
        ),
    ] = DEFAULT_MODEL,
    out: Annotated[
        Path, typer.Option(help="Folder for the results, made if need be.")
    ] = DEFAULT_FOLDER,
    background: Annotated[
        str,
        typer.Option(
            help='When a pixel has no label: "off" (never), a score from 0 to 1 that the best '
            'label must reach, or names of what else there is, such as "wall|floor".'
        ),
    ] = "off",
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures of what the model saw on the way, made if need be: a folder "
            "for each photo, a picture for each label and step."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per photo instead of a table.")
    ] = False,
) -> None:
    """Write a label map, a picture with a legend and a table for each photo.

    In NAME_labels.png a pixel is the position of its label in the list, from 0; 255 is none.
    Exit codes: 0 done, 1 a photo failed, 2 wrong use.
    """
    label_set, mode = _read_labels(labels, background)
    segmenter = load_segmenter(model)
    make_folder(out)
    if explain is not None:
        make_folder(explain)
    files, failed = expand(photos)
    names = output_names(files, out)
    with progress(len(files), "segmenting") as advance, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        for file in files:
            try:
                result = segmenter(file, label_set, background=mode)
                written = result.save(out, names[file])
                if explain is not None:
                    written["explain"] = explain / names[file]
                    segmenter.explain(file, label_set).save(written["explain"])
                report = partial(_show, result, written, as_json)
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                report, failed = partial(complain, reason(file, error)), True
            advance(report)
    raise typer.Exit(FAILED if failed else 0)


@app.command(epilog="Example: `lexiseg models --json`")
def models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per model instead of a table.")
    ] = False,
) -> None:
    """List every model: size, licence, where its weights are, reported scores."""
    rows = list(_model_rows())
    if as_json:
        for row in rows:
            echo_json(row)
        return
    cells = [
        (
            row["model"],
            f"{row['parameters'] / 1e6:.1f} M",
            row["licence"] or "",
            row["weights"],
            ", ".join(f"{name} {value}" for name, value in row["scores"].items()),
        )
        for row in rows
    ]
    print_table(["model", "parameters", "licence", "weights", "reported scores"], cells)


def _read_labels(labels: str, background: str) -> tuple[Any, Any]:
    """The label set and the background mode, checked together."""
    from lexiseg.prompts import Background, LabelSet

    try:
        label_set, mode = LabelSet.of(labels), Background.of(background)
        mode.join(label_set)
    except ValueError as error:
        misuse(str(error))
    return label_set, mode


def _show(result: Any, files: dict[str, Path], as_json: bool) -> None:
    written = {kind: str(path) for kind, path in files.items()}
    if as_json:
        echo_json({"image": result.source, "labels": result.table(), "files": written})
        return
    cells = [
        (
            row["label"],
            f"{row['share']:.1%}",
            f"{row['confidence']:.2f}" if row["share"] else "",
        )
        for row in result.table()
    ]
    echo(result.source)
    print_table(["label", "share", "confidence"], cells)
    for kind, path in written.items():
        echo(f"{kind}: {path}")


def _model_rows() -> Iterator[dict[str, Any]]:
    """What there is to say of each model and each set of weights."""
    from lexiseg import registry

    for arch in registry.registered():
        parameters = _count_parameters(registry.builder_of(arch))
        records = registry.weights_of(arch)
        for name, record in records.items():
            yield {
                "model": name,
                "parameters": parameters,
                "licence": record.licence,
                "weights": "bundled" if record.asset else "to be downloaded",
                "scores": dict(record.scores),
            }
        if not records:
            row = {"model": arch, "parameters": parameters, "licence": None, "weights": "none"}
            yield {**row, "scores": {}}


def _count_parameters(build: Callable[[], Any]) -> int:
    """The size of a model, which is built without memory for its weights."""
    import torch

    with torch.device("meta"):
        return sum(weight.numel() for weight in build().parameters())
