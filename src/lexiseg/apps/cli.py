"""The command line: parse, call the library, show. Torch is loaded only where a model is needed."""

import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

from lexiseg.apps.bench import bench
from lexiseg.apps.compare import compare
from lexiseg.apps.convert import convert
from lexiseg.apps.data import app as data
from lexiseg.apps.doctor import doctor
from lexiseg.apps.evaluate import evaluate
from lexiseg.apps.export import export
from lexiseg.apps.prototypes import app as prototypes
from lexiseg.apps.refer import refer
from lexiseg.apps.segment import segment
from lexiseg.apps.serve import demo, serve
from lexiseg.apps.terminal import FAILED, App, AsJson, complain, echo_json, print_table
from lexiseg.apps.train import train
from lexiseg.apps.video import video
from lexiseg.apps.weights import export_weights, push_to_hub

app = App(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {
    'segment photo.jpg holiday/ --labels "dog, grass, sofa|couch"': segment,
    'compare photo.jpg --labels "dog, grass"': compare,
    'video in.mp4 --labels "dog, grass" --out out.mp4': video,
    "evaluate catseg_lite maskclip_lite my_photos --split val": evaluate,
    'refer photo.jpg "the dog on the left" --model cris_r50=cris.pth': refer,
    "train catseg_lite --data photos --out runs/catseg_lite": train,
    "export-weights runs/own mine.safetensors --licence cc-by-4.0": export_weights,
    "convert model_base.pth catseg_vitb16.safetensors": convert,
    "doctor --json": doctor,
    "export catseg_lite --onnx catseg_onnx --int8": export,
    "bench catseg_lite maskclip_lite --labels 5,20,150": bench,
    "serve --model catseg_lite --model cris_lite": serve,
    "demo --model catseg_lite --model maskclip_lite": demo,
    "push-to-hub mine.safetensors me/mine": push_to_hub,
}
for example, command in COMMANDS.items():
    app.command(epilog=f"Example: `lexiseg {example}`")(command)
app.add_typer(data, name="data")
app.add_typer(prototypes, name="prototypes")


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


@app.command(epilog="Example: `lexiseg models --json`")
def models(as_json: AsJson = False) -> None:
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
