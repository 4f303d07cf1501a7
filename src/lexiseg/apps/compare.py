"""``lexiseg compare``: one photo, several models, one picture and one table."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.files import DEFAULT_FOLDER
from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.segment import BackgroundRule, Labels, read_labels
from lexiseg.apps.terminal import (
    FAILED,
    MISUSE,
    RUN_ERRORS,
    AsJson,
    complain,
    echo,
    echo_json,
    make_folder,
    misuse,
    print_table,
    progress,
    quiet_pictures,
    reason,
)
from lexiseg.atomic import write_atomically

_HEIGHT = 480


def compare(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture.")],
    labels: Labels,
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
    background: BackgroundRule = "off",
    as_json: AsJson = False,
) -> None:
    """Segment a photo by several models: NAME_compared.jpg shows them beside the photo.

    The table has the share of the photo that each model gives to each label, how much of it the
    first model labels alike, and the seconds that the photo took.
    Exit codes: 0 done, 1 a model, the photo or the picture failed, 2 wrong use.
    """
    label_set, mode = read_labels(labels, background)
    names = _names(models)
    make_folder(out)
    results: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    failed = False
    with progress(len(names), "comparing") as advance, quiet_pictures():
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
    from lexiseg.jobs.photos import fitting

    file = out / f"{fitting(photo.stem)}_compared.jpg"
    picture: str | None = str(file)
    try:
        _write_picture(file, results)
    except RUN_ERRORS as error:  # the table is told all the same
        complain(reason(file, error))
        picture, failed = None, True
    rows = _rows(results, seconds)
    if as_json:
        for row in rows:
            echo_json({"image": str(photo), **row, "picture": picture})
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
        if picture is not None:
            echo(f"picture: {picture}")
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


def _write_picture(file: Path, results: dict[str, Any]) -> None:
    """The photo and each model's picture under its name, side by side."""
    from PIL import Image

    from lexiseg.outputs.pictures import jpeg_bytes
    from lexiseg.plot import side_by_side, titled

    image = next(iter(results.values())).image
    pictures = [titled(Image.fromarray(image), "photo")]
    pictures += [titled(result.plot(), name) for name, result in results.items()]
    columns = min(len(pictures), 3)
    sheet = side_by_side(pictures, height=_HEIGHT, columns=columns)
    write_atomically(file, jpeg_bytes(sheet))
