"""Raw downloads of the benchmarks -> the layouts that the catalogue reads.

raw download -> plan: a Job for each photograph (recoding, ade_full, context, cityscapes, coco_json;
                by the benchmark's name: planning)
             -> run: the jobs that are not done yet, each file complete or not there (jobs)
"""

from lexiseg.data.prepare.jobs import Job as Job
from lexiseg.data.prepare.jobs import Outcome as Outcome
from lexiseg.data.prepare.jobs import SourceError as SourceError
from lexiseg.data.prepare.jobs import run as run
from lexiseg.data.prepare.planning import plan as plan
