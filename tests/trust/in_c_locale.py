"""Runs the verbs of the command line one after the other, as a process of its own.

Each line of standard input is a JSON list of words; each gets a line "EXIT code" on stderr.
"""

import json
import sys

import lexiseg.methods
from lexiseg import registry
from lexiseg.apps.cli import main
from tests.conftest import Painter


def run() -> None:
    registry._BUILDERS["painter"] = Painter
    lexiseg.methods.WEIGHTS = {}  # type: ignore[misc]
    for line in sys.stdin.buffer.read().splitlines():
        sys.argv = ["lexiseg", *json.loads(line)]
        try:
            main()
        except SystemExit as end:
            print("EXIT", end.code, file=sys.stderr, flush=True)
        sys.stdout.flush()


if __name__ == "__main__":
    run()
