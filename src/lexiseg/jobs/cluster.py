"""A job spread over a Ray cluster; this file is for the extra ``ray`` alone.

Each worker is an actor that loads the model once and sends back encoded results. The process that
started the job alone writes: workers only need to read the photos, under the same paths.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lexiseg._extras import need
from lexiseg.jobs.job import ERRORS, Engine, Outcome, Work, failure
from lexiseg.jobs.photos import Task

_PURPOSE = "spreading a job over machines"
_PHOTOS_A_BLOCK = 4  # what a worker gives back at a time


class RayWorker:
    """An actor of Ray Data that works at photos, one row each."""

    def __init__(self, load: Callable[[], Work]) -> None:
        self.work = load()

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The number of the task and its pickled outcome."""
        task: Task = pickle.loads(row["task"])
        try:
            picture = self.work.read(task)
            outcome = self.work.encode(task, self.work.segment(task, picture))
        except ERRORS as error:
            outcome = failure(error)
        return {"number": row["number"], "outcome": pickle.dumps(outcome)}


def ray_engine(load: Callable[[], Work], *, workers: int, gpus: int = 0) -> Engine:
    """Photos go to so many workers, wherever the cluster has room for them.

    Args:
        load: makes the work on a worker; it is sent there, with all that it holds.
        workers: how many.
        gpus: of each.
    """
    data = need("ray.data", extra="ray", purpose=_PURPOSE)

    def run(tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        if not tasks:
            return
        rows = data.from_items(
            [{"number": n, "task": pickle.dumps(task)} for n, task in enumerate(tasks)],
            override_num_blocks=max(1, len(tasks) // _PHOTOS_A_BLOCK),
        )
        outcomes = rows.map(
            RayWorker,
            fn_constructor_args=(load,),
            compute=data.ActorPoolStrategy(size=max(1, min(workers, len(tasks)))),
            num_cpus=1,
            num_gpus=gpus,
        )
        for row in outcomes.iter_rows():
            yield tasks[int(row["number"])], pickle.loads(row["outcome"])

    return run
