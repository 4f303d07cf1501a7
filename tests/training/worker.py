"""What ``torchrun`` starts: every kind of job, in several processes. Arguments: OUT KIND..."""

import sys
from dataclasses import replace
from pathlib import Path

from lexiseg.training.loop import fit
from tests.training.jobs import CONFIG, job_of

if __name__ == "__main__":
    for words in sys.argv[2:]:
        kind, _, parts = words.partition("/")
        config = replace(CONFIG, accumulate=int(parts or 1))
        fit(job_of(kind), config, Path(sys.argv[1]) / words.replace("/", "_"))
