"""FreeDA (Barsellotti et al., CVPR 2024): no training; a text looks like prototypes of a bank.

texts ─ CLIP text tower ─┬─ retrieval ─ prototypes ─ cosine ─ sigmoid ─┬─ 0.8 local ─┐
         bank ───────────┼──────┘                       │              │             ├─ + ─ scores
image ─┬─ DINOv2 ────────┼──────────── places ──────────┤              │             │
       ├─ superpixels ───┼──────────── regions ─────────┘              │             │
       └─ CLIP image tower ─ cosine, one number a view ────────────────┴─ 0.2 global ┘

bank/ holds what texts look like, retrieval/ finds it, towers.py are the encoders, regions.py cuts a
view and pools features of its parts, similarity.py compares and paints, pamr.py refines (off),
model.py is the whole figure; protocols.py has the published settings. offline/ makes a bank of
generated images.
"""

from lexiseg.methods.freeda.bank import BankError as BankError
from lexiseg.methods.freeda.bank import BankKind as BankKind
from lexiseg.methods.freeda.bank import PrototypeBank as PrototypeBank
from lexiseg.methods.freeda.bank import Record as Record
from lexiseg.methods.freeda.model import FreeDA as FreeDA
from lexiseg.methods.freeda.model import FreeDAConfig as FreeDAConfig
from lexiseg.methods.freeda.model import Prototypes as Prototypes
from lexiseg.methods.freeda.protocols import Rule as Rule
from lexiseg.methods.freeda.protocols import freeda_protocols as freeda_protocols
from lexiseg.methods.freeda.protocols import freeda_rules as freeda_rules
from lexiseg.methods.freeda.regions import Superpixels as Superpixels
from lexiseg.methods.freeda.retrieval import FaissIndex as FaissIndex
from lexiseg.methods.freeda.retrieval import Retrieval as Retrieval
