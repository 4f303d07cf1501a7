"""What the verbs share: results go to stdout, progress and complaints to stderr."""

import json
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperOption

FAILED, MISUSE = 1, 2
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON, an object a line, instead of tables.")
]
# What a photo, or a package that a model lacks, may bring about; it is told in a line.
RUN_ERRORS = (ValueError, OSError, RuntimeError, MemoryError, ImportError)
_NUMBER = re.compile(r"[\d.]*%?")


class Command(TyperCommand):
    """Refuses the name of an option where another's value stands: that value was forgotten."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words that are left over."""
        options = [each for each in self.params if isinstance(each, TyperOption)]
        names = {name for each in options for name in each.opts}
        with_value = {name for each in options if not each.is_flag for name in each.opts}
        for word, following in pairwise(takewhile(lambda word: word != "--", args)):
            if word in with_value and following.partition("=")[0] in names:
                misuse(f"{word} takes a value, but {following} came")
        return super().parse_args(ctx, args)


class App(typer.Typer):
    """Its commands are :class:`Command`."""

    def command(self, name: str | None = None, **options: Any) -> Callable[..., Any]:
        """What makes a function a command."""
        return super().command(name, cls=Command, **options)


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


@contextmanager
def quiet_pictures() -> Iterator[None]:
    """Without Pillow's warnings: what is wrong with a picture is told in a line of ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        yield


def reason(file: Path, error: BaseException | str) -> str:
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


def fail(message: str) -> NoReturn:
    """Complain and end with the exit code of a failure."""
    complain(message)
    raise typer.Exit(FAILED)


def read_shard(shard: str) -> tuple[int, int]:
    """(i, n) from 0 of a text such as "2/8"; complains and ends where it is another."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        misuse(f"--shard {shard!r} came; give I/N with I from 1 to N, such as 2/8")
    return int(found[1]) - 1, int(found[2])


def package(name: str, *, extra: str, purpose: str) -> Any:
    """A package of an extra, imported; complains and ends where it is missing."""
    from lexiseg._extras import need

    try:
        return need(name, extra=extra, purpose=purpose)
    except ImportError as error:
        fail(str(error))


def make_folder(folder: Path) -> None:
    """Makes the folder and tries to write there, before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        misuse(f"{folder}: cannot write results there ({why})")
