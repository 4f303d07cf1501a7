"""The methods. Importing this package fills the registry.

A new method is added here and nowhere else: the module with its builders, its table of weights.
"""

from collections.abc import Mapping

from lexiseg.methods.catseg.checkpoints import WEIGHTS as CATSEG_WEIGHTS
from lexiseg.methods.catseg.model import CATSeg as CATSeg
from lexiseg.methods.maskclip import WEIGHTS as MASKCLIP_WEIGHTS
from lexiseg.methods.maskclip import MaskCLIP as MaskCLIP
from lexiseg.weights import Weights

WEIGHTS: Mapping[str, Weights] = {**CATSEG_WEIGHTS, **MASKCLIP_WEIGHTS}
