"""Training samples drawn from several data sets at once, each scored against its own names.

sources (sources.py) ─ cutouts pasted on (cutouts.py) ─ teachers ─ augmented ─ sample (samples.py)
                                    (mixture.py; the project's own data sets are in bundled.py)
"""

from lexiseg.data.mixture.bundled import bundled_held_out as bundled_held_out
from lexiseg.data.mixture.bundled import bundled_mixture as bundled_mixture
from lexiseg.data.mixture.bundled import weak_mixture as weak_mixture
from lexiseg.data.mixture.cutouts import Cutouts as Cutouts
from lexiseg.data.mixture.held_out import HeldOut as HeldOut
from lexiseg.data.mixture.mixture import Mixture as Mixture
from lexiseg.data.mixture.mixture import MixtureConfig as MixtureConfig
from lexiseg.data.mixture.mixture import Teacher as Teacher
from lexiseg.data.mixture.samples import Taught as Taught
from lexiseg.data.mixture.samples import TrainingSample as TrainingSample
from lexiseg.data.mixture.samples import some_ids as some_ids
from lexiseg.data.mixture.sources import CaptionSource as CaptionSource
from lexiseg.data.mixture.sources import Drawn as Drawn
from lexiseg.data.mixture.sources import ImageLabelSource as ImageLabelSource
from lexiseg.data.mixture.sources import MaskSource as MaskSource
from lexiseg.data.mixture.sources import PhotographSource as PhotographSource
from lexiseg.data.mixture.sources import Source as Source
