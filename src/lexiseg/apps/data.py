"""``lexiseg data``: which benchmarks there are, what one lacks, and converting downloads."""

import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lexiseg.apps.terminal import (
    FAILED,
    App,
    AsJson,
    complain,
    echo,
    echo_json,
    fail,
    misuse,
    print_table,
    progress,
    reason,
)

app = App(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The benchmarks: list them, check that one is complete, convert its download.",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A benchmark; `lexiseg data list` names all.")
]
Root = Annotated[
    Path, typer.Argument(metavar="ROOT", help="Folder of the data sets, or of this one.")
]
Split = Annotated[str, typer.Option(help="Which part of it: val, or train.")]


@app.command("list", epilog="Example: `lexiseg data list --json`")
def list_benchmarks(as_json: AsJson = False) -> None:
    """List the benchmarks, with the classes and the size of the validation split.

    `lexiseg data check NAME ROOT` and --json say where to get one.
    """
    from lexiseg.data.catalog import ALIASES, BENCHMARKS
    from lexiseg.data.referring import REFERRING_BENCHMARKS

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "aliases": [alias for alias, meant in ALIASES.items() if meant == name],
            "title": benchmark.title,
            "classes": len(benchmark.class_names),
            "images": {split: list(counts) for split, counts in benchmark.counts.items()},
            "images_from": benchmark.images_from,
            "masks_from": benchmark.masks_from,
        }
        for name, benchmark in BENCHMARKS.items()
    ]
    referring: list[dict[str, Any]] = [
        {"name": name, "references": dict(benchmark.references)}
        for name, benchmark in REFERRING_BENCHMARKS.items()
    ]
    if as_json:
        for row in [*rows, *referring]:
            echo_json(row)
        return
    cells = [
        (
            ", ".join((row["name"], *row["aliases"])),
            str(row["classes"]),
            f"{' or '.join(map(str, row['images']['val']))} images",
        )
        for row in rows
    ]
    cells += [(row["name"], "", f"{row['references']['val']} references") for row in referring]
    print_table(["name", "classes", "val"], cells)


@app.command(epilog="Example: `lexiseg data check ade150 ~/datasets`")
def check(name: Name, root: Root, split: Split = "val") -> None:
    """Print what is missing of a benchmark, one line each, and what makes it.

    Exit codes: 0 all is there, 1 something is missing, 2 wrong use.
    """
    from lexiseg.data.datasets import check_dataset, find_name

    _check_folder(root)
    try:
        name = find_name(name)
        findings = check_dataset(name, root, split=split)
    except ValueError as error:
        misuse(str(error))
    except OSError as error:
        _fail(error, root)
    for finding in findings:
        echo(finding)
    if not findings:
        echo(f"{name} {split}: all is there")
    raise typer.Exit(FAILED if findings else 0)


@app.command(epilog="Example: `lexiseg data prepare ade847 ~/datasets`")
def prepare(
    name: Name,
    root: Root,
    split: Split = "val",
    workers: Annotated[int, typer.Option(help="How many files to convert at a time.", min=1)] = (
        os.cpu_count() or 1
    ),
) -> None:
    """Convert the download of a benchmark to the files that are read; nothing else is written.

    What is there already is kept: a run that was stopped goes on where it was.
    Exit codes: 0 done, 1 a source is missing or damaged, 2 wrong use.
    """
    from lexiseg.data.datasets import find_name
    from lexiseg.data.prepare import SourceError, plan, run

    _check_folder(root)
    try:
        name = find_name(name)
        jobs = plan(name, root, split)
    except (SourceError, ImportError) as error:
        fail(str(error))
    except ValueError as error:
        misuse(str(error))
    except OSError as error:
        _fail(error, root)
    if not jobs:
        echo(f"{name} is read as it is downloaded")
        return
    counts = {"written": 0, "kept": 0, "failed": 0}
    outcomes = run(jobs, workers=workers)
    with closing(outcomes), progress(len(jobs), f"preparing {name}") as advance:
        for outcome in outcomes:
            counts[outcome.state] += 1
            failed = outcome.state == "failed"
            advance(partial(complain, outcome.reason) if failed else None)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    echo(f"{name} {split}: {told}")
    raise typer.Exit(FAILED if counts["failed"] else 0)


def _check_folder(root: Path) -> None:
    if not os.path.isdir(root):
        misuse(f"{root} is no folder; give the one that holds the data sets")


def _fail(error: OSError, root: Path) -> NoReturn:
    """Complain of a file that the system does not let us read, and end."""
    fail(reason(Path(error.filename or root), error))
