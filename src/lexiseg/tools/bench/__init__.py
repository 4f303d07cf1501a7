"""What models cost: seconds, floating-point work, memory, and how near they are to the machine.

subjects.py is what is measured, cases.py in which cases, measuring.py how, machine.py on what;
plots.py draws it. Everything is measured in one process, one case after the other, so that ratios
hold where seconds swing with the load.
"""

from lexiseg.tools.bench.machine import matrix_rate as matrix_rate
from lexiseg.tools.bench.measuring import bench as bench
from lexiseg.tools.bench.measuring import flops as flops
from lexiseg.tools.bench.row import Row as Row
from lexiseg.tools.bench.subjects import Compiled as Compiled
from lexiseg.tools.bench.subjects import Eager as Eager
from lexiseg.tools.bench.subjects import Exported as Exported
from lexiseg.tools.bench.subjects import Subject as Subject
