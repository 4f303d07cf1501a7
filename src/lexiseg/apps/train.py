"""``lexiseg train``: the runs that have a name."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.terminal import echo, fail, misuse, print_table, progress


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Name of a run; --list shows them.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder that holds the data sets of the recipe.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; started again, it goes on there.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field, such as optim.lr=1e-4."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be trained, and write nothing.")
    ] = False,
    show_list: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
) -> None:
    """Train a recipe: checkpoints and a log while it runs, weights at the end.

    Several processes, started by torchrun or accelerate launch, share out each batch.
    Exit codes: 0 done, 1 failed, 2 wrong use.
    """
    from lexiseg.training.recipes import RECIPES

    if show_list:
        print_table(
            ["recipe", "steps", "batch", "what it gives"],
            [
                [r.name, f"{r.config.steps:,}", str(r.config.batch_size), r.summary]
                for r in RECIPES.values()
            ],
        )
        return
    chosen = _choose(RECIPES, recipe)
    if data is None or out is None:
        misuse(f"{chosen.name}: give --data and --out, as in --data photos --out runs/mine")
    if not data.is_dir():
        misuse(f"--data {data}: there is no such folder")
    config = _configure(chosen, settings or [])
    try:
        if dry_run:
            _show_plan(chosen, config, data, out)
        else:
            _run(chosen, config, data, out)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        fail(str(error) or type(error).__name__)


def _choose(recipes: dict[str, Any], name: str | None) -> Any:
    if name in recipes:
        return recipes[name]
    if name is None:
        misuse(f"name a recipe: {', '.join(sorted(recipes))}")
    near = difflib.get_close_matches(name, recipes, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return misuse(f"unknown recipe {name!r}; {hint}there are {', '.join(sorted(recipes))}")


def _configure(recipe: Any, settings: list[str]) -> Any:
    from lexiseg.training.settings import change

    try:
        return change(recipe.config, settings)
    except ValueError as error:
        misuse(str(error))


def _show_plan(recipe: Any, config: Any, data: Path, out: Path) -> None:
    from lexiseg.training.folder import check_run
    from lexiseg.training.plan import plan

    processes = _launched("WORLD_SIZE", 1)
    about = _about(recipe, data)
    check_run(out, config, about)
    job = recipe.build(data, config)
    check_run(out, config, about, fingerprint=job.fingerprint)
    for line in plan(job, config, out, processes=processes).lines():
        echo(line)


def _run(recipe: Any, config: Any, data: Path, out: Path) -> None:
    from lexiseg._extras import need
    from lexiseg.training.folder import check_run

    need("accelerate", extra="train", purpose="training")
    from lexiseg.training.loop import fit

    _launched("WORLD_SIZE", 1)
    first = _launched("RANK", 0) == 0
    about = _about(recipe, data)
    check_run(out, config, about)  # before the data are read
    job = recipe.build(data, config)
    steps = config.steps + (job.next.steps if job.next else 0)
    with progress(steps if first else 0, recipe.name) as advance:
        weights = fit(job, config, out, about=about, on_step=lambda step, losses: advance())
    if first:
        echo(f"weights: {weights}")


def _about(recipe: Any, data: Path) -> dict[str, str]:
    return {"recipe": recipe.name, "data": str(data.resolve())}


def _launched(variable: str, default: int) -> int:
    """A number that a launcher of several processes sets."""
    value = os.environ.get(variable, str(default))
    if not value.isdecimal():
        raise ValueError(f"{variable}={value} is set; a launcher sets a number: unset it")
    return int(value)
