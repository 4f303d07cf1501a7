"""What ``torchrun`` starts: every kind of job, in several processes. Arguments: OUT KIND...

KIND/PARTS accumulates; KIND! runs to the end, and then again from the first checkpoint.
"""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist

from lexiseg.training.checkpoints import checkpoints_of
from lexiseg.training.loop import fit
from tests.training.jobs import CONFIG, job_of

if __name__ == "__main__":
    for words in sys.argv[2:]:
        kind, _, parts = words.removesuffix("!").partition("/")
        config = replace(CONFIG, accumulate=int(parts or 1), keep=9)
        out = Path(sys.argv[1]) / words.replace("/", "_").removesuffix("!")
        fit(job_of(kind), config, out)
        if words.endswith("!"):
            if os.environ["RANK"] == "0":
                (out / "weights.safetensors").rename(out / "whole.safetensors")
                for checkpoint in checkpoints_of(out)[1:]:
                    shutil.rmtree(checkpoint.folder)
            dist.barrier()
            fit(job_of(kind), config, out)
