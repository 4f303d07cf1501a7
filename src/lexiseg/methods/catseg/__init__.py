"""CAT-Seg (Cho et al., CVPR 2024): refine the patch-text cost instead of the features.

image ─ image tower ─┬─ patch features ─┬─ appearance guidance ──────┐
                     │                  └─ cosine ─ cost ─ embedding ─ N x AggregationLayer ─┐
texts ─ text tower ──┼──────────────────────┴── text guidance ───────┘                       │
                     └─ two middle layers ─ up-sampling ─ decoder guidance ─────────────── Decoder
                                                                                             │
                                                                                          logits

AggregationLayer: spatial aggregation (layers/swin.py: a Swin pair over the cells of each text),
then class aggregation (classes.py: linear attention between the texts at each cell); aggregation.py
strings them together, layers/decoder.py is the decoder, model.py the whole figure.
"""

from lexiseg.methods.catseg.finetuning import set_finetuning as set_finetuning
from lexiseg.methods.catseg.model import CATSeg as CATSeg
from lexiseg.methods.catseg.model import CATSegConfig as CATSegConfig
from lexiseg.methods.catseg.model import clip_protocols as clip_protocols
