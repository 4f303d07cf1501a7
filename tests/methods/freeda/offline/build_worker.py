"""Builds a bank in a process of its own, and may be killed at any time.

``python build_worker.py DIFFUSION OUT CAPTIONS``: tells a line for every finished caption.
"""

import sys
from pathlib import Path

from lexiseg.methods.freeda.offline.building import Job, local_engine
from lexiseg.methods.freeda.offline.collection import Collector
from lexiseg.methods.freeda.offline.diffusion import Diffusion
from lexiseg.methods.freeda.offline.nouns import Nouns
from lexiseg.methods.freeda.offline.tasks import make_tasks
from tests.methods.freeda.offline.tiny_encoders import tiny_pair


def collector(diffusion: Path) -> Collector:
    return Collector(
        diffusion=Diffusion.from_pretrained(diffusion, steps=2),
        encoder=tiny_pair(),
        nouns=Nouns.bundled(),
    )


def main(diffusion: str, out: str, captions: str) -> None:
    made = collector(Path(diffusion))
    tasks = make_tasks(Path(captions).read_text().splitlines(), seed=3)
    job = Job(Path(out), tasks, made.identity(), made.encoder.kind)
    if job.begin() is None:
        for task in job.work(local_engine(made)):
            sys.stdout.write(f"done {task.index}\n")
            sys.stdout.flush()
        job.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
