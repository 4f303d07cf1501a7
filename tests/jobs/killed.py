"""Runs a folder job again and again, killing it at random moments, until it comes to its end.

The model is loaded once; each attempt is a fork of this process. Prints how often it was killed,
the exit code, and the seconds of the last attempt.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import lexiseg.apps.segment
from lexiseg.apps.cli import app
from lexiseg.jobs.manifest import manifests
from lexiseg.segmenter import Segmenter
from tests.conftest import Painter


def attempt(words: list[str]) -> int:
    """The process that runs the command."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            app(words)
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(70)
    return child


def main(seed: str, kills: str, longest: str, *words: str) -> None:
    segmenter = Segmenter(Painter())
    lexiseg.apps.segment.load_segmenter = lambda _: segmenter
    chance, killed = random.Random(int(seed)), 0
    while True:
        start = time.perf_counter()
        child = attempt(list(words))
        if killed < int(kills):
            time.sleep(chance.uniform(0, float(longest)))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            check(Path(words[words.index("--out") + 1]))
        else:
            print(killed, os.waitstatus_to_exitcode(status), time.perf_counter() - start)
            return


def check(out: Path) -> None:
    """No half file is seen: pictures end as PNG does, tables as JSON does."""
    for path in out.rglob("[!.]*") if out.is_dir() else []:
        ending = {".png": b"IEND\xaeB`\x82", ".json": b"}\n"}.get(path.suffix)
        assert ending is None or path.read_bytes().endswith(ending), path
    assert len(manifests(out)) <= 1


if __name__ == "__main__":
    main(*sys.argv[1:])
