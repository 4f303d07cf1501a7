"""Photographs, expressions and masks: one's own, the REFER files, the CRIS authors' databases.

generated.py makes expressions from photographs with masks (regions.py finds what can be told apart,
wording.py says how), shapes.py renders scenes, training.py turns all of it into samples.
"""

from lexiseg.data.referring.folder import read_referring_folder as read_referring_folder
from lexiseg.data.referring.generated import GENERATED as GENERATED
from lexiseg.data.referring.generated import check_generated as check_generated
from lexiseg.data.referring.generated import read_generated as read_generated
from lexiseg.data.referring.lmdb_records import read_lmdb as read_lmdb
from lexiseg.data.referring.refer_files import REFERRING_BENCHMARKS as REFERRING_BENCHMARKS
from lexiseg.data.referring.refer_files import check_refer as check_refer
from lexiseg.data.referring.refer_files import read_refer as read_refer
from lexiseg.data.referring.references import ReferringDataset as ReferringDataset
from lexiseg.data.referring.references import ReferringSample as ReferringSample
