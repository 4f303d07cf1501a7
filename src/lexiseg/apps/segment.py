"""``lexiseg segment``: photos and folders of them, segmented by labels."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lexiseg.apps.files import DEFAULT_FOLDER, once, output_names
from lexiseg.apps.folder import Show, is_job, run_folder_job
from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.terminal import (
    FAILED,
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
    read_shard,
    reason,
)

DEFAULT_MODEL = "catseg_lite"

Labels = Annotated[
    str,
    typer.Option(
        help="Labels between commas, synonyms between bars; or a standard list, such as voc20, "
        "coco80, ade150, pc59, stuff171, cityscapes19."
    ),
]
BackgroundRule = Annotated[
    str,
    typer.Option(
        help='When a pixel has no label: "off" (never), a score from 0 to 1 that the best '
        'label must reach, or names of what else there is, such as "wall|floor".'
    ),
]


def segment(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO...", help="Pictures, or folders of pictures.")
    ],
    labels: Labels,
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
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="What is written, between commas, beside the table NAME.json: labels (png), "
            "overlay (jpg), coco, polygons, geojson, yolo (txt), npz, confidence, maps.",
        ),
    ] = "labels,overlay",
    background: BackgroundRule = "off",
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Folders below the given ones too.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Of folders: threads that read and write beside the model.")
    ] = 1,
    shard: Annotated[
        str, typer.Option(help="Of folders: I/N does the I-th of N parts, such as 2/8.")
    ] = "1/1",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="Of folders: this process; or a Ray cluster, at $RAY_ADDRESS or of this machine, "
            "of which --workers says how many work."
        ),
    ] = "local",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Of folders: go on where a job stopped; or remove its results and begin anew.",
        ),
    ] = True,
    tile: Annotated[
        int | None,
        typer.Option(
            min=64,
            help="Pictures with a longer side than this go in tiles of this side.  [default: those "
            "of more than 40 megapixels, in tiles of 1024]",
        ),
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(min=0.001, help="Larger pictures are refused before they are decoded.")
    ] = 40.0,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures of what the model saw on the way, made if need be: a folder "
            "for each photo, a picture for each label and step."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a label map, a picture with a legend and a table for each photo.

    In NAME_labels.png a pixel is the position of its label in the list, from 0; 255 is none.
    Folders are jobs: OUT/lexiseg_manifest.jsonl tells what is done, the same command goes on after
    a stop, and other words or weights need another OUT.
    Exit codes: 0 done, 1 a photo failed, 2 wrong use.
    """
    label_set, mode = read_labels(labels, background)
    chosen, part = _read_formats(formats), read_shard(shard)
    if engine == "ray" and explain is not None:
        misuse("--explain is not done on a cluster; leave it or --engine ray out")
    segmenter = load_segmenter(model)
    segmenter.max_pixels = round(max_megapixels * 1e6)
    for folder in (out, explain):
        if folder is not None:
            make_folder(folder)
    show = partial(_show, as_json)
    from lexiseg.jobs.job import Work

    work = Work(segmenter, label_set, mode, chosen, tile, explain)
    if is_job(photos, out, recursive=recursive, shard=shard):
        complete = run_folder_job(
            work,
            photos,
            out,
            model=model,
            recursive=recursive,
            shard=part,
            workers=workers,
            resume=resume,
            engine=engine,
            show=show,
        )
    else:
        complete = _segment_photos(work, once(photos), out, show)
    raise typer.Exit(0 if complete else FAILED)


def _segment_photos(work: Any, files: list[Path], out: Path, show: Show) -> bool:
    """One photo after the other; whether every one has its results."""
    from lexiseg.jobs.large import segment_photo

    names = output_names(files, out, formats=work.formats, labels=work.labels.labels)
    choices = {"background": work.background, "tile": work.tile}
    with_scores = bool({"maps", "npz"} & set(work.formats))
    complete = True
    with progress(len(files), "segmenting") as advance, quiet_pictures():
        for file in files:
            try:
                result = segment_photo(
                    work.segmenter, file, work.labels, **choices, scores=with_scores
                )
                written = result.save(out, names[file], formats=work.formats)
                if work.explain is not None:
                    written["explain"] = work.explain / names[file]
                    work.segmenter.explain(file, work.labels).save(written["explain"])
                report = partial(show, str(file), result.table(), written)
            except RUN_ERRORS as error:
                report, complete = partial(complain, reason(file, error)), False
            advance(report)
    return complete


def read_labels(labels: str, background: str) -> tuple[Any, Any]:
    """The label set and the background mode, checked together."""
    from lexiseg.prompts import Background, LabelSet

    try:
        label_set, mode = LabelSet.of(labels), Background.of(background)
        mode.join(label_set)
    except ValueError as error:
        misuse(str(error))
    return label_set, mode


def _read_formats(formats: str) -> tuple[str, ...]:
    """What is asked for and the table, by which a result is known again."""
    from lexiseg.outputs import parse_formats

    try:
        return parse_formats(f"{formats},json")
    except ValueError as error:
        misuse(str(error))


def _show(as_json: bool, image: str, table: list[dict[str, Any]], files: dict[str, Path]) -> None:
    written = {kind: str(path) for kind, path in files.items()}
    if as_json:
        echo_json({"image": image, "labels": table, "files": written})
        return
    cells = [
        (
            row["label"],
            f"{row['share']:.1%}",
            f"{row['confidence']:.2f}" if row["share"] else "",
        )
        for row in table
    ]
    echo(image)
    print_table(["label", "share", "confidence"], cells)
    for kind, path in written.items():
        echo(f"{kind}: {path}")
