"""``lexiseg evaluate``: models scored on photographs with masks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.terminal import (
    FAILED,
    complain,
    echo_json,
    load_segmenter,
    misuse,
    print_table,
    progress,
)


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATASET",
            help="Names of models, then a folder with classes.json and SPLIT/images, SPLIT/masks.",
        ),
    ],
    split: Annotated[str, typer.Option(help="Which split of the folder.")] = "val",
    protocol: Annotated[str, typer.Option(help="How the models are run.")] = "default",
    per_class: Annotated[bool, typer.Option("--per-class", help="IoU of each class too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per model instead of a table.")
    ] = False,
) -> None:
    """Score models on photographs with masks, one table for all.

    Every score is a fraction from 0 to 1 and comes from one confusion matrix over the whole split.
    Exit codes: 0 done, 1 failed, 2 wrong use.
    """
    from lexiseg.data.semantic import read_semantic_folder

    *models, folder = arguments
    if not models:
        misuse(f"only {folder!r} came; name one or more models, then the folder of the data set")
    try:
        dataset = read_semantic_folder(Path(folder), split)
    except (ValueError, OSError) as error:
        misuse(str(error))
    segmenters = {name: load_segmenter(name, protocol=protocol) for name in models}
    rows, failed = [], False
    for name, segmenter in segmenters.items():
        try:
            rows.append(_row(name, segmenter, dataset, split, per_class))
        except (ValueError, OSError) as error:
            complain(f"{name}: {error}")
            failed = True
            continue
        if as_json:
            echo_json(rows[-1])
    if rows and not as_json:
        _print(rows, dataset.class_names if per_class else ())
    raise typer.Exit(FAILED if failed else 0)


def _row(name: str, segmenter: Any, dataset: Any, split: str, per_class: bool) -> dict[str, Any]:
    from lexiseg.evaluation.evaluate import evaluate as score

    with progress(len(dataset), name) as advance:
        scores = score(segmenter, dataset, on_image=lambda done: advance())
    row: dict[str, Any] = {
        "model": name,
        "dataset": dataset.name,
        "split": split,
        "images": len(dataset),
        "mIoU": scores.mean_iou,
        "pAcc": scores.pixel_accuracy,
        "mAcc": scores.mean_accuracy,
        "fwIoU": scores.frequency_weighted_iou,
    }
    if per_class:
        present = zip(dataset.class_names, scores.class_iou.tolist(), strict=True)
        row["class_IoU"] = {label: iou for label, iou in present if iou == iou}  # not NaN
    return row


def _print(rows: list[dict[str, Any]], class_names: tuple[str, ...]) -> None:
    metrics = ("mIoU", "pAcc", "mAcc", "fwIoU")
    table = [[row["model"], *(f"{row[metric]:.3f}" for metric in metrics)] for row in rows]
    print_table(("model", *metrics), table)
    shown = [label for label in class_names if label in rows[0].get("class_IoU", {})]
    if shown:
        of_class = [[label, *(f"{row['class_IoU'][label]:.3f}" for row in rows)] for label in shown]
        print_table(("class IoU", *(row["model"] for row in rows)), of_class)
