"""``lexiseg export-weights`` and ``lexiseg push-to-hub``: from a run to weights that others use."""

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.apps.terminal import echo, fail, misuse, reason


def export_weights(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a `lexiseg train`.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT.safetensors", help="Where the weights are written.")
    ],
    checkpoint: Annotated[
        str,
        typer.Option(
            help="Which weights: final (of a finished run), best (the checkpoint with the best "
            "score so far) or last."
        ),
    ] = "final",
    licence: Annotated[
        str,
        typer.Option(help="Of the weights, such as cc-by-nc-4.0; the data decide what it can be."),
    ] = "unknown",
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RECORD.json",
            help="A record of `lexiseg evaluate` with these weights, for the card; repeatable.",
        ),
    ] = None,
) -> None:
    """Write a run's weights to one file, and a card about them beside it.

    `lexiseg segment --model OUT.safetensors` and `Segmenter.from_pretrained` load the file.
    Exit codes: 0 done, 1 the file cannot be written, 2 wrong use.
    """
    from lexiseg.training.export import export_weights as export

    try:
        card = export(run, out, choice=checkpoint, licence=licence, records=scores or [])
    except ValueError as error:
        misuse(str(error))
    except OSError as error:
        fail(reason(out, error))
    echo(f"weights: {out}")
    echo(f"card: {card}")


def push_to_hub(
    weights: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A file of `lexiseg export-weights`, with its card."),
    ],
    repository: Annotated[
        str,
        typer.Argument(
            metavar="OWNER/NAME", help="Repository, made if need be; hf:OWNER/NAME too."
        ),
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Show a new repository to nobody else.")
    ] = False,
) -> None:
    """Put weights and their card on the Hugging Face hub, as whom `hf auth login` logged in.

    `lexiseg segment --model hf:OWNER/NAME` loads them from there.
    Exit codes: 0 done, 1 the hub cannot be reached or refuses, 2 wrong use.
    """
    from lexiseg import hub

    try:
        page = hub.push_to_hub(weights, repository, private=private)
    except ValueError as error:
        misuse(str(error))
    except (OSError, ImportError) as error:
        fail(str(error))
    echo(page)
