"""``lexiseg refer``: one photo, several expressions, a mask for each."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.files import DEFAULT_FOLDER, output_names
from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.terminal import (
    RUN_ERRORS,
    AsJson,
    echo,
    echo_json,
    fail,
    make_folder,
    misuse,
    print_table,
    quiet_pictures,
    reason,
)

DEFAULT_MODEL = "cris_lite"


def refer(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture.")],
    expressions: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPRESSION...", help='What to find, such as "the dog on the left".'
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Name of a model; `lexiseg models` lists them. Or ARCH=FILE, such as "
            "cris_r50=best_model.pth, FILE.safetensors, hf:OWNER/NAME.  [default: cris_lite]"
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="How the model is run: default, or published as its authors do.")
    ] = "default",
    out: Annotated[
        Path, typer.Option(help="Folder for the results, made if need be.")
    ] = DEFAULT_FOLDER,
    background: Annotated[
        str,
        typer.Option(
            help='When a pixel is not of the object: "off" for the model\'s own rule, a score from '
            '0 to 1 that it must reach, or names of what else there is, such as "wall|floor".'
        ),
    ] = "off",
    as_json: AsJson = False,
) -> None:
    """Find what each expression names in a photo: a mask each, one picture and one JSON file.

    The photo is looked at once, whatever the number of expressions. NAME_1_mask.png is white where
    the first expression's object is; NAME.json has scores, boxes (x1, y1, x2, y2) and polygons.
    Exit codes: 0 done, 1 the photo failed, 2 wrong use.
    """
    tidy, mode = _read(expressions, background)
    segmenter = load_segmenter(_chosen(model), protocol=protocol)
    if not hasattr(segmenter, "refer"):
        misuse(f"--model {model} is an exported model, which takes labels; give the model itself")
    make_folder(out)
    name = output_names([photo], out, masks=len(tidy))[photo]
    try:
        with quiet_pictures():
            result = segmenter.refer(photo, tidy, background=mode)
            written = result.save(out, name)
    except RUN_ERRORS as error:
        fail(reason(photo, error))
    _show(result, {kind: str(path) for kind, path in written.items()}, as_json)


def _read(expressions: list[str], background: str) -> tuple[list[str], Any]:
    """The expressions and the background mode, checked before a model is loaded."""
    from lexiseg.prompts import Background, check_name

    tidy = [expression.strip() for expression in expressions]
    try:
        for expression in tidy:
            check_name(expression, kind="expression")
        return tidy, Background.of(background)
    except ValueError as error:
        misuse(str(error))


def _chosen(model: str | None) -> str:
    """The model that is asked for, or the bundled one, of which it is said where it is missing."""
    from lexiseg.registry import registered, weights_of

    if model is not None:
        return model
    if DEFAULT_MODEL not in registered() or not weights_of(DEFAULT_MODEL):
        misuse(
            f"{DEFAULT_MODEL}, the model for expressions, is not bundled with this version; give "
            "--model cris_r50=FILE with a published checkpoint of CRIS, or --model catseg_lite, "
            "which is bundled but takes an expression for a label"
        )
    return DEFAULT_MODEL


def _show(result: Any, written: dict[str, str], as_json: bool) -> None:
    table = result.table()
    if as_json:
        echo_json({"image": result.source, "expressions": table, "files": written})
        return
    cells = [
        (
            row["expression"],
            f"{row['score']:.2f}" if row["box"] else "",
            f"{row['share']:.1%}",
            ", ".join(str(number) for number in row["box"]) if row["box"] else "nothing found",
        )
        for row in table
    ]
    echo(result.source)
    print_table(["expression", "score", "share", "box"], cells)
    for kind, path in written.items():
        echo(f"{kind}: {path}")
