"""``lexiseg export``: a model as ONNX graphs, checked against torch."""

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.terminal import AsJson, echo, echo_json, fail, make_folder, misuse, reason


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Name of a model, ARCH=FILE, or FILE.safetensors: a CAT-Seg or a MaskCLIP.",
        ),
    ],
    onnx: Annotated[
        Path, typer.Option("--onnx", metavar="DIR", help="Folder for the graphs, made if need be.")
    ],
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Store matrices as int8; what that changes is measured."),
    ] = False,
    photos: Annotated[
        list[Path] | None,
        typer.Option(
            "--photo", metavar="PHOTO", help="A picture to compare with torch on; repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write image encoder, text encoder and head as ONNX graphs; needs the extra `onnx`.

    Labels stay open. `lexiseg.onnx.OnnxSegmenter` runs them without torch, and
    `lexiseg segment PHOTO --model DIR` too.
    Exit codes: 0 done, 1 it failed, 2 wrong use.
    """
    from lexiseg.images import ImageError, read_image

    try:
        pictures = [read_image(photo) for photo in photos or []]
    except ImageError as error:
        fail(str(error))
    segmenter = load_segmenter(model)
    make_folder(onnx)
    try:
        from lexiseg.onnx.export import export as write

        description = write(segmenter.model.cpu(), onnx, name=model, int8=int8, pictures=pictures)
    except ValueError as error:
        misuse(str(error))
    except (ImportError, OSError, ArithmeticError) as error:
        fail(reason(onnx, error))
    parity = description.parity or {}
    if as_json:
        record = {"folder": str(onnx), "model": model, "int8": list(description.int8), **parity}
        echo_json(record)
        return
    echo(f"graphs: {onnx}")
    echo(f"int8: {', '.join(description.int8) or 'none'}")
    echo(f"largest difference of a logit from torch: {parity['logits']:.2g}")
    echo(f"same label: {parity['agreement']:.2%} of all places")
