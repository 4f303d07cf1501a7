"""``lexiseg bench``: what models cost on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg._extras import need
from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.terminal import echo_json, fail, make_folder, misuse, note, print_table


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Names of models, and folders of `lexiseg export`, float32 or int8.",
        ),
    ] = None,
    sizes: Annotated[
        str, typer.Option(help="Sides of the square images in pixels, between commas.")
    ] = "384",
    labels: Annotated[
        str,
        typer.Option(help="Numbers of labels, such as 5,20,150,847,2000; of cris_* sentences."),
    ] = "20",
    batches: Annotated[str, typer.Option(help="Images at once, such as 1,4.")] = "1",
    one_at_a_time: Annotated[
        bool,
        typer.Option(
            "--one-at-a-time",
            help="Vary sizes, labels or batches, the others at their first number; else all cases.",
        ),
    ] = False,
    repeats: Annotated[
        int, typer.Option(min=1, help="Of each case, of which the median counts.")
    ] = 3,
    at_most: Annotated[
        float, typer.Option(min=0, help="Seconds of a case after which it is not repeated again.")
    ] = 60,
    protocol: Annotated[
        str, typer.Option(help="How models are run, such as published, with its windows.")
    ] = "default",
    untrained: Annotated[
        bool,
        typer.Option("--untrained", help="Models are names of architectures, with random weights."),
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compiled",
            help="Each model through torch.compile too, anew for each case, which takes a minute.",
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where models run: cpu, cuda, cuda:1, mps or auto.")
    ] = "cpu",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the machine and the rows as a JSON object.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw the rows into PNG files there (extra `plot`)."),
    ] = None,
    from_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--from", metavar="FILE", help="Show what --json gave before; repeatable, no MODEL."
        ),
    ] = None,
) -> None:
    """Seconds, memory and floating-point work of models, with text cold and cached.

    Utilisation is the work a second as a part of that of a large matrix product.
    Exit codes: 0 done, 1 a model cannot be loaded, 2 wrong use.
    """
    if bool(models) == bool(from_files):
        misuse("give names of models, or --from FILE with rows that were measured before")
    if plot is not None:
        _check_plot(plot)
    if from_files:
        found = _kept(from_files)
    else:
        numbers = {
            name: _numbers(name, text)
            for name, text in (("sizes", sizes), ("labels", labels), ("batches", batches))
        }
        subjects = _subjects(models or [], protocol, device, untrained=untrained, compiled=compiled)
        from lexiseg.tools.bench import bench as measure

        found = measure(
            subjects,
            sizes=numbers["sizes"],
            labels=numbers["labels"],
            batches=numbers["batches"],
            one_at_a_time=one_at_a_time,
            repeats=repeats,
            at_most=at_most or None,
            done=_tell,
        )
    if as_json:
        echo_json(found)
    else:
        _print(found)
    if plot is not None:
        from lexiseg.tools.bench.plots import draw

        for file in draw(found, plot):
            note(f"plot: {file}")


def _tell(row: Any) -> None:
    took = row.note if row.seconds is None else f"{row.seconds:.3f} s"
    note(f"{row.model} {row.engine}, {row.labels} {row.texts}, {row.size} x {row.batch}: {took}")


def _subjects(
    models: list[str], protocol: str, device: str, *, untrained: bool, compiled: bool
) -> list[Any]:
    """Each model, and behind it the same compiled."""
    from lexiseg.devices import choose_device
    from lexiseg.onnx import OnnxSegmenter
    from lexiseg.tools.bench.subjects import Compiled, Eager, Exported, missing_compiler

    if compiled and (lacking := missing_compiler()):
        fail(lacking)
    try:
        chosen = choose_device(device)
    except ValueError as error:
        misuse(str(error))
    subjects: list[Any] = []
    for name in models:
        segmenter = _segmenter(name, protocol, untrained=untrained)
        if isinstance(segmenter, OnnxSegmenter):
            if chosen.type != "cpu":
                misuse(f"{name} is exported and runs on the CPU; leave --device {device} out")
            subjects.append(Exported(segmenter))
            continue
        subjects.append(Eager(name, segmenter.model, protocol=protocol, device=chosen))
        if compiled:
            subjects.append(Compiled(name, segmenter.model, protocol=protocol, device=chosen))
    return subjects


def _segmenter(model: str, protocol: str, *, untrained: bool) -> Any:
    from lexiseg.registry import builder_of
    from lexiseg.segmenter import Segmenter

    if not untrained:
        return load_segmenter(model, protocol=protocol)
    try:
        return Segmenter(builder_of(model)(), protocol=protocol, device="cpu")
    except ValueError as error:
        misuse(str(error))


def _numbers(name: str, text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        misuse(f"--{name} {text!r} came; give whole numbers from 1 between commas, such as 5,20")
    return numbers


def _kept(files: list[Path]) -> dict[str, Any]:
    from lexiseg.tools.bench.files import read_measured

    try:
        return read_measured(files)
    except (OSError, ValueError) as error:
        misuse(str(error))


def _check_plot(folder: Path) -> None:
    """Before anything is measured: a folder to write to, and what draws."""
    make_folder(folder)
    try:
        need("matplotlib", extra="plot", purpose="A plot")
    except ImportError as error:
        fail(str(error))


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "model": lambda row: row["model"],
    "engine": lambda row: row["engine"],
    "size": lambda row: f"{row['height']}x{row['width']}",
    "labels": lambda row: str(row["labels"]),
    "of": lambda row: "" if row["texts"] == "labels" else row["texts"],
    "batch": lambda row: str(row["batch"]),
    "text s": lambda row: f"{row['text_seconds']:.3f}",
    "picture s": lambda row: _number(row["seconds"], 3),
    "cold s": lambda row: _number(row["seconds"] and row["text_seconds"] + row["seconds"], 3),
    "text CPU s": lambda row: f"{row['text_cpu_seconds']:.3f}",
    "picture CPU s": lambda row: _number(row["cpu_seconds"], 3),
    "compile s": lambda row: _number(row["compile_seconds"], 1),
    "graphs": lambda row: _number(row["graphs"], 0),
    "text GFLOP": lambda row: _number(row["text_gflop"], 1),
    "GFLOP": lambda row: _number(row["gflop"], 1),
    "extra MB": lambda row: _number(row["extra_mb"], 1),
    "peak MB": lambda row: _number(row["peak_mb"], 1),
    "utilisation": lambda row: "" if row["utilisation"] is None else f"{row['utilisation']:.0%}",
    "note": lambda row: row["note"],
}


def _print(found: dict[str, Any]) -> None:
    """Two tables; a column that is empty in every row is left out."""
    print_table(["machine", ""], [(name, _cell(value)) for name, value in found["machine"].items()])
    columns = {name: [cell(row) for row in found["rows"]] for name, cell in COLUMNS.items()}
    filled = {name: cells for name, cells in columns.items() if any(cells)}
    print_table(list(filled), list(zip(*filled.values(), strict=True)))


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:.1f}" if isinstance(value, float) else str(value)
