"""CRIS (Wang et al., CVPR 2022): one mask for each sentence, by text-to-pixel contrast.

                      ┌─ C3 (stride 8) ──┐
image ─ image tower ──┼─ C4 (stride 16) ─┼─ Neck ─ Decoder, 3 x DecoderLayer ─┐
                      └─ C5 (stride 32) ─┘   │            │                   ├─ Projector ─ logits
sentence ─ text tower ─┬─ state ─────────────┴────────────┼─ kernel and bias ─┘
                       └─ words ──────────────────────────┘

sentences.py reads states and words; neck.py multiplies the coarsest map by the state and merges the
three at stride 16; in decoder.py every cell reads all cells and then the words; projector.py turns
the state into a 3x3 kernel, which is slid over the up-sampled map, and holds the contrastive loss;
model.py is the whole figure. letterbox.py is the published way of a picture into the model and of
scores back; lite.py is the small model on the bundled encoder, fine_projector.py its last box.
"""

from lexiseg.methods.cris.letterbox import Letterbox as Letterbox
from lexiseg.methods.cris.lite import CRISLite as CRISLite
from lexiseg.methods.cris.lite import CRISLiteConfig as CRISLiteConfig
from lexiseg.methods.cris.model import CRIS as CRIS
from lexiseg.methods.cris.model import CRISConfig as CRISConfig
from lexiseg.methods.cris.model import cris_protocols as cris_protocols
from lexiseg.methods.cris.projector import text_to_pixel_loss as text_to_pixel_loss
from lexiseg.methods.cris.sentences import Sentences as Sentences
