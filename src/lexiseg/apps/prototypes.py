"""``lexiseg prototypes``: banks of prototypes for FreeDA, built, taught, joined and checked."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.prototypes_build import Clip, Dino, Lite, build, end, read_encoders
from lexiseg.apps.terminal import (
    FAILED,
    App,
    AsJson,
    complain,
    echo,
    echo_json,
    misuse,
    print_table,
)

app = App(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Banks of prototypes for FreeDA: build, teach, join and check them.",
)

Bank = Annotated[Path, typer.Argument(metavar="BANK", help="Folder of a bank.")]

app.command(
    epilog="Example: `lexiseg prototypes build --captions captions.txt --out bank --lite "
    "--diffusion stable-diffusion-v1-5/stable-diffusion-v1-5`",
)(build)


@app.command(epilog="Example: `lexiseg prototypes add bank --images tractors --lite`")
def add(
    bank: Bank,
    images: Annotated[
        Path,
        typer.Option(
            help="Folder with regions.json (boxes or clicks), or with classes.json and masks."
        ),
    ],
    split: Annotated[str, typer.Option(help="Of a folder that has several.")] = "train",
    dino: Dino = None,
    clip: Clip = None,
    lite: Lite = False,
    as_json: AsJson = False,
) -> None:
    """Add prototypes from annotated pictures of your own to a bank, or begin one.

    Exit codes: 0 done, 1 failed, 2 wrong use.
    """
    from lexiseg.data.examples import read_pictures
    from lexiseg.devices import choose_device
    from lexiseg.methods.freeda.bank import HEADER
    from lexiseg.methods.freeda.offline.annotated import add_pictures, open_for

    encoders = read_encoders(dino, clip, lite)
    try:
        pictures = read_pictures(images, split)
        encoder = encoders.load(choose_device())
        if (bank / HEADER).exists():
            open_for(bank, encoder)
        added = add_pictures(bank, pictures, encoder)
    except (OSError, ImportError, RuntimeError, MemoryError) as error:
        end(bank, error)
    except ValueError as error:
        misuse(str(error))
    _tell(bank, as_json, added=added)


@app.command(epilog="Example: `lexiseg prototypes info bank --json`")
def info(bank: Bank, as_json: AsJson = False) -> None:
    """Say what a bank holds: rows, words, and which encoders made it.

    Exit codes: 0 done, 2 no bank.
    """
    _tell(bank, as_json)


@app.command(epilog="Example: `lexiseg prototypes merge all --from bank-1 --from bank-2`")
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the bank of all.")],
    banks: Annotated[
        list[Path], typer.Option("--from", help="A bank; give it several times, in order.")
    ],
    as_json: AsJson = False,
) -> None:
    """Join banks that the same encoders made; shards in their order give the bank of the whole.

    Exit codes: 0 done, 1 failed, 2 wrong use.
    """
    from lexiseg.methods.freeda.bank import merge as join

    if out.exists():
        misuse(f"{out} is there; choose another name for the bank of all")
    try:
        join(banks, out)
    except OSError as error:
        end(out, error)
    except ValueError as error:
        misuse(str(error))
    _tell(out, as_json)


@app.command(epilog="Example: `lexiseg prototypes verify bank`")
def verify(bank: Bank, as_json: AsJson = False) -> None:
    """Read all of a bank: checksums, shapes, finite numbers, records, rows that stand twice.

    Exit codes: 0 all is well, 1 something is wrong.
    """
    from lexiseg.methods.freeda.bank import verify as check

    problems = check(bank)
    if as_json:
        echo_json({"bank": str(bank), "problems": problems})
    for problem in problems:
        complain(problem)
    if not problems and not as_json:
        echo(f"{bank}: all is well")
    raise typer.Exit(FAILED if problems else 0)


def _tell(bank: Path, as_json: bool, **more: Any) -> None:
    """What a bank is, and how often its commonest words occur."""
    from collections import Counter

    from lexiseg.methods.freeda.bank import PrototypeBank
    from lexiseg.methods.freeda.bank import info as describe

    try:
        described = {**describe(bank), **more}
        counts = Counter(record.word for record in PrototypeBank.open(bank).records())
    except ValueError as error:
        misuse(str(error))
    if as_json:
        echo_json({**described, "words": dict(counts.most_common())})
        return
    rows = [(name, str(value)) for name, value in described.items()]
    commonest = ", ".join(f"{word} {count}" for word, count in counts.most_common(10))
    print_table(["what", "value"], [*rows, ("words", str(len(counts))), ("commonest", commonest)])
