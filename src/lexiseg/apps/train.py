"""``lexiseg train``: the runs that made the bundled weights."""

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.apps.terminal import FAILED, complain, echo, misuse, progress


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a run.")],
    data: Annotated[Path, typer.Option(help="Folder that holds the data sets of the recipe.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; started again, it goes on there.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field, such as optim.lr=1e-4."),
    ] = None,
) -> None:
    """Train a recipe: checkpoints and a log while it runs, weights at the end.

    Exit codes: 0 done, 1 failed, 2 wrong use.
    """
    from lexiseg.training.loop import NonFiniteLossError
    from lexiseg.training.recipes import RECIPES
    from lexiseg.training.settings import change

    if recipe not in RECIPES:
        misuse(f"unknown recipe {recipe!r}; there are {', '.join(sorted(RECIPES))}")
    run, config = RECIPES[recipe]
    try:
        config = change(config, settings or [])
    except ValueError as error:
        misuse(str(error))
    try:
        with progress(config.steps, recipe) as advance:
            weights = run(data, out, config, on_step=lambda step, losses: advance())
    except (ValueError, OSError, NonFiniteLossError) as error:
        complain(str(error))
        raise typer.Exit(FAILED) from error
    echo(f"weights: {weights}")
