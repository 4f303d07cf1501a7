"""What the verbs share: results go to stdout, progress and complaints to stderr."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer

FAILED, MISUSE = 1, 2
# What a photo, or a package that a model lacks, may bring about; it is told in a line.
RUN_ERRORS = (ValueError, OSError, RuntimeError, MemoryError, ImportError)
FAST = "fast:"  # before a model's name: its int8 graphs, see onnx/preset.py
_NUMBER = re.compile(r"[\d.]*%?")


@contextmanager
def progress(count: int, title: str) -> Iterator[Callable[..., None]]:
    """A bar on stderr if there are several things to do.

    Gives a function that moves the bar on, to be called after each thing; if it is handed another
    function, one that prints, that is called while the bar is out of the way.
    """
    if count < 2:
        yield lambda report=None: report() if report else None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task(title, total=count)

    def advance(report: Callable[[], None] | None = None) -> None:
        if report is not None:
            if console.is_terminal:
                bar.stop()
            report()
            if console.is_terminal:
                bar.start()
        bar.advance(task)

    with bar:
        yield advance


def reason(file: Path, error: BaseException) -> str:
    """One line that names the file and says what went wrong."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text if text.startswith(str(file)) else f"{file}: {text}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """To stdout. Numbers are never cut; into a pipe or a file goes the whole width."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Column, Table
    from rich.text import Text

    numbers = [all(_NUMBER.fullmatch(cell) for cell in cells) for cells in zip(*rows, strict=True)]
    only_numbers = all(numbers[1:])  # then it is the first column that gives way
    first = Column(Text(columns[0]), no_wrap=not only_numbers, overflow="fold")
    others = zip(columns[1:], numbers[1:], strict=True)
    table = Table(first, *(Column(Text(name), no_wrap=is_number) for name, is_number in others))
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])  # rich would take brackets for its markup
    console = Console()
    if not console.is_terminal:
        wide = console.options.update(max_width=10_000)
        console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    console.print(table)


def print_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """To stdout, as a table of Markdown; numbers to the right."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    for row in (columns, rule, *rows):
        cells = (str(cell).replace("\\", "\\\\").replace("|", "\\|") for cell in row)
        echo(f"| {' | '.join(cells)} |")


def echo(text: str) -> None:
    """To stdout, whatever a file's name holds."""
    typer.echo(text.encode("utf-8", "backslashreplace").decode())


def echo_json(record: dict[str, Any]) -> None:
    """One object on one line of stdout."""
    echo(json.dumps(record, ensure_ascii=False))


def complain(message: str) -> None:
    """One line on stderr, of something that went wrong."""
    note(f"error: {message}")


def note(message: str) -> None:
    """One line on stderr."""
    line = " ".join(message.splitlines())
    typer.echo(line.encode("utf-8", "backslashreplace").decode(), err=True)


def misuse(message: str) -> NoReturn:
    """Complain and end with the exit code of wrong use."""
    complain(message)
    raise typer.Exit(MISUSE)


def make_folder(folder: Path) -> None:
    """Makes the folder and tries to write there, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        misuse(f"{folder}: cannot write results there ({why})")


def load_segmenter(model: str, *, protocol: str = "default") -> Any:
    """The Segmenter of a model's name; complains and ends where there is none.

    ``ARCH=FILE`` is a model with weights from a file, such as the authors' checkpoint, and
    ``ARCH=PART=FILE,PART=FILE`` one that begins from several, such as FreeDA's bank. A process of
    several that a launcher started on one machine takes the GPU of its number. A folder of
    ``lexiseg export`` gives an OnnxSegmenter, and so does ``fast:MODEL``.
    """
    if os.path.isdir(model):
        return _load_export(model, protocol)
    if model.startswith(FAST):
        return _load_fast(model.removeprefix(FAST), protocol)
    from lexiseg.registry import create_model, registered
    from lexiseg.segmenter import Segmenter, choose_device

    arch, _, file = model.partition("=")
    if arch not in registered() or Path(model).is_file():  # the sign is a part of a path
        file = ""
    try:
        device = choose_device()
        if device.type == "cuda" and "LOCAL_RANK" in os.environ:
            device = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        if file:
            return Segmenter(
                create_model(arch, weights=_weights(file)), protocol=protocol, device=device
            )
        return Segmenter.from_pretrained(model, protocol=protocol, device=device)
    except ValueError as error:
        misuse(str(error))
    except (OSError, ImportError) as error:
        complain(f"model {model!r}: {error}")
        raise typer.Exit(FAILED) from error


def _weights(file: str) -> str | dict[str, str]:
    """A file, or files by the part that they are for."""
    pairs = [each.partition("=") for each in file.split(",")]
    if os.path.exists(file) or not all(sign and part.isidentifier() for part, sign, _ in pairs):
        return file
    return {part: path for part, _, path in pairs}


def _load_export(folder: str, protocol: str) -> Any:
    from lexiseg.onnx import OnnxSegmenter

    _check_exported(protocol)
    try:
        return OnnxSegmenter(folder)
    except ValueError as error:
        misuse(str(error))
    except ImportError as error:
        complain(str(error))
        raise typer.Exit(FAILED) from error


def _load_fast(model: str, protocol: str) -> Any:
    _check_exported(protocol)
    if os.path.isdir(model):
        misuse(f"{model} is exported already; give it without {FAST!r}")
    from lexiseg.onnx.preset import fast_segmenter

    def tell(folder: Path) -> None:
        note(f"{FAST}{model} is exported once, in about a minute, to {folder}")

    whole = load_segmenter(model).model.cpu()
    try:
        return fast_segmenter(whole, model, on_export=tell)
    except ValueError as error:
        misuse(str(error))
    except (ImportError, OSError, ArithmeticError) as error:
        complain(f"model {FAST + model!r}: {error}")
        raise typer.Exit(FAILED) from error


def _check_exported(protocol: str) -> None:
    if protocol != "default":
        misuse(f"an exported model has one protocol, default; {protocol!r} came")
