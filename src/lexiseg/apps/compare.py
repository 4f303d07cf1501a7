"""``lexiseg compare``: one photo, several models, one picture and one table."""

import io
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.segment import DEFAULT_FOLDER, read_labels
from lexiseg.apps.terminal import (
    FAILED,
    MISUSE,
    RUN_ERRORS,
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

_HEIGHT = 480


def compare(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture.")],
    labels: Annotated[
        str,
        typer.Option(help="Labels between commas, synonyms between bars; or a standard list."),
    ],
    models: Annotated[
        str,
        typer.Option(
            help='Names between commas, as --model of segment takes them; "all": those whose '
            "weights are bundled."
        ),
    ] = "all",
    out: Annotated[
        Path, typer.Option(help="Folder for the picture, made if need be.")
    ] = DEFAULT_FOLDER,
    background: Annotated[
        str, typer.Option(help="When a pixel has no label, as for segment.")
    ] = "off",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per model instead of a table.")
    ] = False,
) -> None:
    """Segment a photo by several models: NAME_compared.jpg shows them beside the photo.

    The table has the share of the photo that each model gives to each label, how much of it the
    first model labels alike, and the seconds that the photo took.
    Exit codes: 0 done, 1 a model or the photo failed, 2 wrong use.
    """
    label_set, mode = read_labels(labels, background)
    names = _names(models)
    make_folder(out)
    results: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    failed = False
    with progress(len(names), "comparing") as advance, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        for name in names:
            try:
                segmenter = load_segmenter(name)
                start = time.perf_counter()
                results[name] = segmenter(photo, label_set, background=mode)
                seconds[name] = round(time.perf_counter() - start, 3)
            except typer.Exit as end:  # which has said why
                if end.exit_code == MISUSE:
                    raise
                failed = True
            except RUN_ERRORS as error:
                complain(f"model {name!r}: {reason(photo, error)}")
                failed = True
            advance()
    if not results:
        raise typer.Exit(FAILED)
    file = _write_picture(photo, out, results)
    rows = _rows(results, seconds)
    if as_json:
        for row in rows:
            echo_json({"image": str(photo), **row, "picture": str(file)})
    else:
        cells = [
            (
                row["model"],
                *(f"{share:.1%}" for share in row["shares"].values()),
                f"{row['agreement']:.1%}",
                f"{row['seconds']:.1f}",
            )
            for row in rows
        ]
        print_table(["model", *label_set.labels, "agreement", "seconds"], cells)
        echo(f"picture: {file}")
    raise typer.Exit(FAILED if failed else 0)


def _names(models: str) -> list[str]:
    """The models that are meant, each once."""
    if models != "all":
        names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
        if not names:
            misuse('no models came; give some names between commas, or "all"')
        return names
    from lexiseg import registry

    return [
        name
        for arch in registry.registered()
        for name, record in registry.weights_of(arch).items()
        if record.asset
    ]


def _rows(results: dict[str, Any], seconds: dict[str, float]) -> list[dict[str, Any]]:
    """Of each model its shares, agreement with the first (0 to 1) and seconds."""
    first = next(iter(results.values())).label_map
    return [
        {
            "model": name,
            "shares": result.shares(),
            "agreement": round(float((result.label_map == first).mean()), 6),
            "seconds": seconds[name],
        }
        for name, result in results.items()
    ]


def _write_picture(photo: Path, out: Path, results: dict[str, Any]) -> Path:
    """The photo and each model's picture under its name, side by side."""
    from PIL import Image

    from lexiseg.jobs.photos import fitting
    from lexiseg.plot import side_by_side, titled
    from lexiseg.result import write_atomically

    image = next(iter(results.values())).image
    pictures = [titled(Image.fromarray(image), "photo")]
    pictures += [titled(result.plot(), name) for name, result in results.items()]
    columns = min(len(pictures), 3)
    buffer = io.BytesIO()
    side_by_side(pictures, height=_HEIGHT, columns=columns).save(buffer, "JPEG", quality=90)
    file = out / f"{fitting(photo.stem)}_compared.jpg"
    write_atomically(file, buffer.getvalue())
    return file
