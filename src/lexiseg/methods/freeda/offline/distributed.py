"""Captions over many machines by Ray Data; this file is for the extra ``ray`` alone.

Every worker is an actor that loads the recipe's models once. What comes of a caption goes back to
the process that started the job, which alone writes: machines need no disk in common.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lexiseg._extras import need
from lexiseg.methods.freeda.bank import BankKind
from lexiseg.methods.freeda.offline.building import Engine, Packed
from lexiseg.methods.freeda.offline.recipe import Recipe
from lexiseg.methods.freeda.offline.tasks import Task

CAPTIONS_A_BLOCK = 8  # what a worker gives back at a time
_PURPOSE = "spreading captions over machines"


class RayWorker:
    """An actor of Ray Data that works at captions, one row each."""

    def __init__(self, recipe: Recipe) -> None:
        self.collector = recipe.load()

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The packed outcome of a caption, and its image or no bytes."""
        task = Task(int(row["index"]), str(row["caption"]), int(row["seed"]))
        outcome = self.collector(task)
        return {"outcome": outcome.pack(), "png": outcome.png() or b""}


def describe(recipe: Recipe) -> tuple[dict[str, Any], BankKind]:
    """Identity and kind of a recipe's collector, found out by a worker."""
    ray = need("ray", extra="ray", purpose=_PURPOSE)
    return ray.get(ray.remote(_describe).options(num_gpus=_gpus(recipe)).remote(recipe))


def ray_engine(recipe: Recipe, workers: int) -> Engine:
    """Captions go to so many workers, wherever the cluster has room for them."""
    data = need("ray.data", extra="ray", purpose=_PURPOSE)

    def run(tasks: Sequence[Task]) -> Iterator[Packed]:
        if not tasks:
            return
        rows = data.from_items(
            [asdict(task) for task in tasks],
            override_num_blocks=max(1, len(tasks) // CAPTIONS_A_BLOCK),
        )
        outcomes = rows.map(
            RayWorker,
            fn_constructor_args=(recipe,),
            compute=data.ActorPoolStrategy(size=min(workers, len(tasks))),
            num_cpus=1,
            num_gpus=_gpus(recipe),
        )
        for row in outcomes.iter_rows():
            yield row["outcome"], row["png"] or None

    return run


def _describe(recipe: Recipe) -> tuple[dict[str, Any], BankKind]:
    collector = recipe.load()
    return collector.identity(), collector.encoder.kind


def _gpus(recipe: Recipe) -> int:
    return int(recipe.device.startswith("cuda"))
