"""``lexiseg evaluate``: models scored on a data set, one table for all."""

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.terminal import (
    FAILED,
    RUN_ERRORS,
    AsJson,
    complain,
    echo_json,
    make_folder,
    misuse,
    note,
    print_markdown,
    print_table,
    progress,
    read_shard,
)

_RANK, _WORLD_SIZE = "RANK", "WORLD_SIZE"
_POLL_SECONDS = 0.5
SHOWN = ("model", "dataset", "split", "items", "mIoU", "pAcc", "mAcc", "fwIoU", "oIoU", "prec")


def evaluate(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATASET",
            help="Names of models (ARCH=FILE for an authors' checkpoint), then a benchmark such as "
            "ade150 or refcoco (`lexiseg data list`), or a folder of your own.",
        ),
    ],
    split: Annotated[str, typer.Option(help="Which split of the data set.")] = "val",
    data_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the benchmarks; by default $LEXISEG_DATA, $DETECTRON2_DATASETS or "
            "datasets."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="How the models are run: default, or published as their authors do."),
    ] = "default",
    background: Annotated[
        str,
        typer.Option(
            help='When a pixel has no label: "off" for the data set\'s rule, a score from 0 to 1, '
            'or names such as "wall|floor".'
        ),
    ] = "off",
    boundary: Annotated[bool, typer.Option("--boundary", help="Boundary IoU too.")] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for the records, and for what is needed to go on.")
    ] = Path("lexiseg_scores"),
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Count the I-th of N parts only, such as 2/8.")
    ] = "1/1",
    workers: Annotated[int, typer.Option(min=0, help="Threads that read ahead.")] = 1,
    per_class: Annotated[bool, typer.Option("--per-class", help="IoU of each class too.")] = False,
    as_json: AsJson = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown.")
    ] = False,
) -> None:
    """Score models on a data set, one table for all.

    Every score is a fraction from 0 to 1, from counts over the whole split. The record of each
    model is written to OUT/DATASET-SPLIT; a run that was stopped goes on when it is started again.
    Parts (--shard) and processes (accelerate launch) share OUT and are merged by the last of them.
    Exit codes: 0 done, 1 failed, 2 wrong use.
    """
    *models, name = arguments
    if not models:
        misuse(f"only {name!r} came; name one or more models, then the data set")
    part = _part(shard)
    dataset, mode = _dataset(name, split, data_root), _background(background)
    make_folder(out)
    for model in models[1:]:  # what is wrong with a name is told before hours are spent
        _load(model, protocol)
    choices = {"background": mode, "boundary": boundary}
    rows = [_try(model, protocol, dataset, choices, out, part, workers) for model in models]
    shown = [row for row in rows if row]
    if as_json:
        kept = (*SHOWN, "bIoU", *(["class_IoU"] if per_class else []))
        for row in shown:
            echo_json({key: row[key] for key in kept if key in row})
    elif shown:
        _print(shown, per_class, markdown)
    raise typer.Exit(FAILED if None in rows else 0)


def _try(
    model: str,
    protocol: str,
    dataset: Any,
    choices: dict[str, Any],
    out: Path,
    part: tuple[int, int],
    workers: int,
) -> dict[str, Any] | None:
    """The record of one model; {} where other processes make it, None where it failed."""
    from lexiseg.evaluation.evaluate import prepare_evaluation

    segmenter = _load(model, protocol)
    try:
        evaluation = prepare_evaluation(segmenter, dataset, **choices)
        return _score(model, evaluation, out, part, workers)
    except RUN_ERRORS as error:
        complain(f"{model}: {error}")
    if _RANK in os.environ:  # the other processes must not wait for this one
        raise typer.Exit(FAILED)
    return None


def _load(model: str, protocol: str) -> Any:
    segmenter = load_segmenter(model, protocol=protocol)
    if not hasattr(segmenter, "protocol"):
        misuse(f"{model} is an exported model, which is not scored; give the model itself")
    return segmenter


def _score(
    model: str, evaluation: Any, out: Path, part: tuple[int, int], workers: int
) -> dict[str, Any]:
    from lexiseg.evaluation.record import RecordedEvaluation

    run = RecordedEvaluation(evaluation, model, out, shard=part)
    mine = len(range(part[0], len(evaluation), part[1]))
    if len(run.todo) < mine:
        note(f"{model}: goes on, {mine - len(run.todo)} of {mine} are counted already")
    with progress(len(run.todo), model) as advance:
        run.run(workers=workers, on_item=advance)
    if _RANK in os.environ:
        return _merge_launched(run, model, part)
    record = run.finish()
    if record is None:
        note(
            f"{model}: part {part[0] + 1} of {part[1]} is counted; {run.missing()} of "
            f"{len(evaluation)} items are left to other parts, of the same weights, words and "
            "versions; the last of them prints the table"
        )
    return record or {}


def _merge_launched(run: Any, model: str, part: tuple[int, int]) -> dict[str, Any]:
    """The first process of a launcher waits for the others, which leave the record to it."""
    if part[0] > 0:
        return {}
    record = run.finish()
    if record is None:
        note(f"{model}: waiting for {run.missing()} items of other processes")
    while record is None:
        time.sleep(_POLL_SECONDS)
        record = run.finish()
    return dict(record)


def _part(shard: str) -> tuple[int, int]:
    """(i, n), i from 0, of the option or of a launcher's environment."""
    if _RANK not in os.environ and _WORLD_SIZE not in os.environ:
        return read_shard(shard)
    if shard != "1/1":
        misuse("--shard came under a launcher, which makes parts itself; leave one of them out")
    rank, world = (os.environ.get(name, "") for name in (_RANK, _WORLD_SIZE))
    if not (rank.isascii() and rank.isdigit() and world.isascii() and world.isdigit()):
        misuse(f"{_RANK} is {rank!r} and {_WORLD_SIZE} {world!r}; a launcher sets both to numbers")
    if not int(rank) < int(world):
        misuse(f"{_RANK} is {rank} and {_WORLD_SIZE} {world}; ranks lie in 0 to {world} - 1")
    return int(rank), int(world)


def _dataset(name: str, split: str, root: Path | None) -> Any:
    from lexiseg.data.catalog import BENCHMARKS, size_note
    from lexiseg.data.datasets import open_dataset

    try:
        dataset = open_dataset(name, split=split, root=root)
    except (ValueError, OSError, ImportError) as error:
        misuse(str(error))
    if dataset.name in BENCHMARKS and (told := size_note(dataset.name, split, len(dataset))):
        note(f"{name}: {told}")
    return dataset


def _background(text: str) -> Any:
    from lexiseg.prompts import Background

    try:
        return Background.of(text)
    except ValueError as error:
        misuse(str(error))


def _print(rows: list[dict[str, Any]], per_class: bool, markdown: bool) -> None:
    show = print_markdown if markdown else print_table
    metrics = [key for key in ("mIoU", "oIoU", "pAcc", "mAcc", "fwIoU", "bIoU") if key in rows[0]]
    levels = list(rows[0].get("prec", {}))
    columns = ["model", *metrics, *(f"P@{level}" for level in levels), "s/item"]
    cells = [
        [
            row["model"],
            *(f"{row[metric]:.3f}" for metric in metrics),
            *(f"{row['prec'][level]:.3f}" for level in levels),
            f"{row['seconds_per_item']:.2f}" if "seconds_per_item" in row else "",
        ]
        for row in rows
    ]
    show(columns, cells)
    if per_class and "class_IoU" in rows[0]:
        of_class = [
            [label, *(f"{row['class_IoU'][label]:.3f}" for row in rows)]
            for label in rows[0]["class_IoU"]
        ]
        show(["class IoU", *(row["model"] for row in rows)], of_class)
