"""The methods. Importing this package fills the registry.

A new method is added here and nowhere else: the module with its builders, its table of weights.
"""

from collections.abc import Mapping

from lexiseg.methods.catseg.checkpoints import WEIGHTS as CATSEG_WEIGHTS
from lexiseg.methods.catseg.model import CATSeg as CATSeg
from lexiseg.methods.cris.checkpoints import WEIGHTS as CRIS_WEIGHTS
from lexiseg.methods.cris.model import CRIS as CRIS
from lexiseg.methods.escnet.checkpoints import WEIGHTS as ESCNET_WEIGHTS
from lexiseg.methods.escnet.model import ESCNet as ESCNet
from lexiseg.methods.freeda.checkpoints import WEIGHTS as FREEDA_WEIGHTS
from lexiseg.methods.freeda.model import FreeDA as FreeDA
from lexiseg.methods.maskclip import WEIGHTS as MASKCLIP_WEIGHTS
from lexiseg.methods.maskclip import MaskCLIP as MaskCLIP
from lexiseg.methods.segclip.checkpoints import WEIGHTS as SEGCLIP_WEIGHTS
from lexiseg.methods.segclip.lite import SegCLIPLite as SegCLIPLite
from lexiseg.methods.segclip.model import SegCLIP as SegCLIP
from lexiseg.methods.two_stage import WEIGHTS as TWO_STAGE_WEIGHTS
from lexiseg.methods.two_stage import TwoStage as TwoStage
from lexiseg.weights import Weights

WEIGHTS: Mapping[str, Weights] = {
    **CATSEG_WEIGHTS,
    **CRIS_WEIGHTS,
    **ESCNET_WEIGHTS,
    **FREEDA_WEIGHTS,
    **MASKCLIP_WEIGHTS,
    **SEGCLIP_WEIGHTS,
    **TWO_STAGE_WEIGHTS,
}
