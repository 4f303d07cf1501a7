"""``lexiseg bench``: what models cost on this machine."""

from typing import Annotated, Any

import typer

from lexiseg.apps.terminal import echo_json, load_segmenter, misuse, note, print_table


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Names of models, and folders of `lexiseg export`, float32 or int8.",
        ),
    ],
    sizes: Annotated[
        str, typer.Option(help="Sides of the square images in pixels, between commas.")
    ] = "384",
    labels: Annotated[
        str, typer.Option(help="Numbers of labels, such as 5,20,150,847,2000.")
    ] = "20",
    batches: Annotated[str, typer.Option(help="Images at once, such as 1,4.")] = "1",
    repeats: Annotated[
        int, typer.Option(min=1, help="Of each case, of which the median counts.")
    ] = 3,
    protocol: Annotated[
        str, typer.Option(help="How models are run, such as published, with its windows.")
    ] = "default",
    untrained: Annotated[
        bool,
        typer.Option("--untrained", help="Models are names of architectures, with random weights."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the machine and the rows as a JSON object.")
    ] = False,
) -> None:
    """Seconds, memory and floating-point work of models, with text cold and cached.

    Utilisation is the work a second as a part of that of a large matrix product.
    Exit codes: 0 done, 1 a model cannot be loaded, 2 wrong use.
    """
    numbers = {
        name: _numbers(name, text)
        for name, text in (("sizes", sizes), ("labels", labels), ("batches", batches))
    }
    from lexiseg.bench import Row
    from lexiseg.bench import bench as measure

    def done(row: Row) -> None:
        note(f"{row.model} {row.engine}, {row.labels} labels: {row.seconds:.3f} s")

    subjects = [_subject(model, protocol, untrained=untrained) for model in models]
    found = measure(
        subjects,
        sizes=numbers["sizes"],
        labels=numbers["labels"],
        batches=numbers["batches"],
        repeats=repeats,
        done=done,
    )
    if as_json:
        echo_json(found)
        return
    print_table(["machine", ""], [(name, _cell(value)) for name, value in found["machine"].items()])
    columns = ["model", "engine", "size", "labels", "batch", "text s", "picture s", "cold s"]
    print_table(
        [*columns, "picture CPU s", "text GFLOP", "GFLOP", "extra MB", "utilisation"],
        [_cells(row) for row in found["rows"]],
    )


def _subject(model: str, protocol: str, *, untrained: bool) -> Any:
    from lexiseg.bench import Eager, Exported
    from lexiseg.onnx import OnnxSegmenter
    from lexiseg.registry import builder_of
    from lexiseg.segmenter import Segmenter

    if untrained:
        try:
            segmenter = Segmenter(builder_of(model)(), protocol=protocol, device="cpu")
        except ValueError as error:
            misuse(str(error))
    else:
        segmenter = load_segmenter(model, protocol=protocol)
    if isinstance(segmenter, OnnxSegmenter):
        return Exported(segmenter)
    return Eager(model, segmenter.model.cpu(), protocol=protocol)


def _numbers(name: str, text: str) -> list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        misuse(f"--{name} {text!r} came; give whole numbers from 1 between commas, such as 5,20")
    return numbers


def _cells(row: dict[str, Any]) -> list[str]:
    cold = row["text_seconds"] + row["seconds"]
    numbers = (row["text_gflop"], row["gflop"], row["extra_mb"])
    return [
        row["model"],
        row["engine"],
        f"{row['height']}x{row['width']}",
        str(row["labels"]),
        str(row["batch"]),
        *(f"{seconds:.3f}" for seconds in (row["text_seconds"], row["seconds"], cold)),
        f"{row['cpu_seconds']:.3f}",
        *("" if number is None else f"{number:.1f}" for number in numbers),
        "" if row["utilisation"] is None else f"{row['utilisation']:.0%}",
    ]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:.1f}" if isinstance(value, float) else str(value)
