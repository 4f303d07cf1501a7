"""ESC-Net (Lee et al., CVPR 2025): SAM's decoder blocks, driven by prompts that CLIP makes itself.

image ─ image tower ─┬─ patch features ─ projection ─ image ──┐
                     │        │                               │
                     │     cosine ─ correlation ─┬─ pseudo prompts ─ SAM block ─ image'
                     │        │                  │                                  │
texts ─ text tower ──┼────────┴───────────────── ┴─ vision-language fusion ─────────┘ N rounds
                     │                                    │
                     └─ two middle layers ────────────── Decoder ─ logits

pseudo_prompts.py turns correlation maps into points and masks, blocks.py is one round of the figure
with its SAM block, fusion.py the vision-language fusion, layers/decoder.py the decoder, boundary.py
an addition of ours; rounds.py strings them together, model.py adds the encoder, and explanation.py
is what it saw on the way.
"""

from lexiseg.methods.escnet.explanation import Explanation as Explanation
from lexiseg.methods.escnet.finetuning import set_finetuning as set_finetuning
from lexiseg.methods.escnet.model import ESCNet as ESCNet
from lexiseg.methods.escnet.model import ESCNetConfig as ESCNetConfig
from lexiseg.methods.escnet.model import escnet_protocols as escnet_protocols
