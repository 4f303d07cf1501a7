"""What there is to do for each benchmark, by its name."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

from lexiseg.data import catalog
from lexiseg.data.catalog.benchmarks import Benchmark
from lexiseg.data.prepare.ade_full import plan_ade847
from lexiseg.data.prepare.cityscapes import plan_cityscapes19
from lexiseg.data.prepare.coco_json import find_annotations, plan_object_annotations
from lexiseg.data.prepare.context import plan_context59, plan_context60, plan_context459
from lexiseg.data.prepare.jobs import Job, SourceError
from lexiseg.data.prepare.recoding import (
    has_pixel_maps,
    plan_ade150,
    plan_object81,
    plan_stuff171,
    plan_voc,
)
from lexiseg.data.referring import REFERRING_BENCHMARKS

Planner = Callable[[Benchmark, Path, str], Iterable[Job]]


def _plan_object81(benchmark: Benchmark, root: Path, split: str) -> Iterable[Job]:
    """As published, out of COCO-Stuff's label maps; without them out of COCO's annotations."""
    file = find_annotations(benchmark, root, split)
    if file is None or has_pixel_maps(benchmark, root, split):
        return plan_object81(benchmark, root, split)
    return plan_object_annotations(file, split)


# voc21 and the referring benchmarks are read as they are downloaded.
PLANNERS: Mapping[str, Planner] = {
    "ade150": plan_ade150,
    "ade847": plan_ade847,
    "context59": plan_context59,
    "context60": plan_context60,
    "context459": plan_context459,
    "voc20": partial(plan_voc, background=255, folder_name="annotations_detectron2"),
    "voc20b": partial(plan_voc, background=20, folder_name="annotations_detectron2_bg"),
    "stuff171": plan_stuff171,
    "object81": _plan_object81,
    "cityscapes19": plan_cityscapes19,
}


def plan(name: str, root: str | Path, split: str = "val") -> tuple[Job, ...]:
    """What there is to do for a benchmark; empty where it is read as it is downloaded.

    Args:
        name: of a benchmark of the catalogue, or an alias; or of a referring benchmark.
        root: where the data sets are; nothing is written elsewhere.
        split: "val", or "train".

    Raises:
        SourceError: the raw download is not there; the message says where to get it.
        ValueError: an unknown name or split, or no such folder.
    """
    if name in REFERRING_BENCHMARKS:
        counts: Collection[str] = REFERRING_BENCHMARKS[name].references
    else:
        name = catalog.find(name).name
        counts = catalog.BENCHMARKS[name].counts
    if split not in counts:
        allowed = " and ".join(counts)
        raise ValueError(f"split {split!r} of {name} came; allowed are {allowed}")
    if not os.path.isdir(root):
        raise ValueError(f"{root} is no folder; give the one that holds the data sets")
    if name not in PLANNERS:
        return ()
    jobs = tuple(PLANNERS[name](catalog.BENCHMARKS[name], Path(root), split))
    if not jobs:
        raise SourceError(f"{root}: the download of {name} is there, but has no files of {split}")
    return jobs
