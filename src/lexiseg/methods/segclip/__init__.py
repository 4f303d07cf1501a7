"""SegCLIP (Luo et al., ICML 2023): patches gather around learned centres; captions alone teach it.

                     place                                    ┌─ max ─┐
image ─ patches ─ N x block ─┬───── GroupingModule ─ regions ─┴───────┴─ M x block ─ image, regions
                             │      (grouping.py)   └ assignment                        │
                             │            └── superpixel loss (objectives.py)           ├─ maps
 hidden patches ─ N x block ─┴─ the same ─ Reconstruction ─ pixels                      │ scoring.py
                                           (reconstruction.py)                          │
texts ─ text tower ─────────────────────────────── contrastive loss (objectives.py) ────┘

tower.py has the image tower, model.py the whole; lite.py is the same on the bundled encoder.
"""

from lexiseg.methods.segclip.lite import SegCLIPLite as SegCLIPLite
from lexiseg.methods.segclip.lite import SegCLIPLiteConfig as SegCLIPLiteConfig
from lexiseg.methods.segclip.model import SegCLIP as SegCLIP
from lexiseg.methods.segclip.model import SegCLIPConfig as SegCLIPConfig
from lexiseg.methods.segclip.model import build_segclip as build_segclip
from lexiseg.methods.segclip.model import segclip_protocols as segclip_protocols
