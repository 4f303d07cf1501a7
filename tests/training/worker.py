"""What ``torchrun`` starts: every kind of job, in several processes. Arguments: OUT KIND...

KIND/PARTS accumulates; KIND! runs to the end, and then again from the first checkpoint. With
``ACCELERATE_USE_FSDP=true`` the processes share the weights out.
"""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist
from accelerate import state
from torch.distributed.tensor import DTensor

from lexiseg.training.checkpoints import checkpoints_of
from lexiseg.training.loop import fit
from tests.training.jobs import CONFIG, job_of

SHARED_OUT = os.environ.get("ACCELERATE_USE_FSDP") == "true"


def as_gpus() -> None:
    """Have accelerate take these processes for GPUs: between others it shares no weights out."""
    begin = state.AcceleratorState.__init__

    def init(self: state.AcceleratorState, *arguments: object, **options: object) -> None:
        processes = state.PartialState(cpu=options.get("cpu", False))
        processes._shared_state["distributed_type"] = state.DistributedType.MULTI_GPU
        begin(self, *arguments, **options)

    state.AcceleratorState.__init__ = init


if __name__ == "__main__":
    if SHARED_OUT:
        as_gpus()
    for words in sys.argv[2:]:
        kind, _, parts = words.removesuffix("!").partition("/")
        config = replace(CONFIG, accumulate=int(parts or 1), keep=9)
        out = Path(sys.argv[1]) / words.replace("/", "_").removesuffix("!")
        job = job_of(kind)
        fit(job, config, out)
        weights = job.objective.parameters()
        assert any(isinstance(weight, DTensor) for weight in weights) == SHARED_OUT
        if words.endswith("!"):
            if os.environ["RANK"] == "0":
                (out / "weights.safetensors").rename(out / "whole.safetensors")
                for checkpoint in checkpoints_of(out)[1:]:
                    shutil.rmtree(checkpoint.folder)
            dist.barrier()
            fit(job_of(kind), config, out)
