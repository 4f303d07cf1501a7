"""A frozen teacher for the bundled encoder: DeepLabV3 on MobileNetV2, PASCAL VOC's 21 classes.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017), and Sandler et
al., "MobileNetV2" (CVPR 2018), at output stride 16 and without the atrous pyramid's dilated arms.
The weights are a file of arrays with the batch norms folded in, under PyTorch's names for
MobileNetV2; only training reads it.
"""

import hashlib
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

TEACHER_NAMES = (
    *("background", "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep"),
    *("sofa", "train", "tv monitor"),
)
LONGEST = 512  # pixels; the teacher was trained on 513
UNSURE = 255
_STRIDES = {2: 2, 4: 2, 7: 2}  # of block: 1 elsewhere
_DILATED_FROM = 15
_BLOCKS = 17


class DeepLabTeacher(nn.Module):
    """Scores of VOC's classes at a sixteenth of the image's size.

    Args:
        weights: arrays by name, such as ``features.3.conv.1.0.weight``.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self._weights = weights

    @classmethod
    def read(cls, path: Path) -> "DeepLabTeacher":
        """The teacher in an ``.npz`` file.

        Raises:
            ValueError: there is no such file.
        """
        if not path.is_file():
            raise ValueError(f"{path} is missing: the recipe's teacher")
        with np.load(path) as file:
            return cls({name: torch.from_numpy(file[name]) for name in file.files})

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 21 h w"]:
        """Logits of images whose pixels are (value - 128) / 128."""
        x = F.relu6(self._conv(images, "features.0.0", stride=2))
        for block in range(1, _BLOCKS + 1):
            x = self._block(x, block)
        whole = F.relu(self._conv(x.mean(dim=(-2, -1), keepdim=True), "aspp.pool"))
        local = F.relu(self._conv(x, "aspp.conv"))
        both = torch.cat([whole.expand_as(local), local], dim=1)
        return self._conv(F.relu(self._conv(both, "aspp.project")), "head")

    def label(self, image: UInt8[np.ndarray, "H W 3"], sure: float) -> UInt8[np.ndarray, "H W"]:
        """Positions in ``TEACHER_NAMES``; ``UNSURE`` where none has the probability ``sure``."""
        height, width = image.shape[:2]
        scale = LONGEST / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = torch.tensor(np.array(Image.fromarray(image).resize(size)))
        logits = self(((pixels.permute(2, 0, 1).float() - 128) / 128)[None])
        logits = F.interpolate(logits, size=(height, width), mode="bilinear")
        probability, label_map = logits[0].softmax(dim=0).max(dim=0)
        label_map[probability < sure] = UNSURE
        return label_map.byte().numpy()

    def _block(self, x: Float[Tensor, "B C H W"], block: int) -> Float[Tensor, "B D h w"]:
        """Expand (but in the first block), filter each channel, project."""
        name, stride = f"features.{block}.conv", _STRIDES.get(block, 1)
        dilation = 2 if block >= _DILATED_FROM else 1
        inner = x if block == 1 else F.relu6(self._conv(x, f"{name}.0.0"))
        depthwise, project = (".0.0", ".1") if block == 1 else (".1.0", ".2")
        inner = self._conv(inner, name + depthwise, stride=stride, dilation=dilation)
        out = self._conv(F.relu6(inner), name + project)
        return x + out if block > 1 and out.shape == x.shape else out

    def _conv(
        self, x: Float[Tensor, "B C H W"], name: str, *, stride: int = 1, dilation: int = 1
    ) -> Float[Tensor, "B D h w"]:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        groups = x.shape[1] // weight.shape[1]
        side = (weight.shape[-1] - 1) * dilation + 1
        top, bottom = _same_padding(x.shape[-2], side, stride)
        left, right = _same_padding(x.shape[-1], side, stride)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, weight, bias, stride=stride, dilation=dilation, groups=groups)


class TeacherLabels:
    """What the teacher is sure of on each photograph, computed once and kept packed.

    Args:
        teacher: the network.
        sure: the probability that a class must reach.
    """

    names: tuple[str, ...] = TEACHER_NAMES

    def __init__(self, teacher: DeepLabTeacher, *, sure: float = 0.6) -> None:
        self.teacher = teacher
        self.sure = sure
        self._packed: dict[bytes, bytes] = {}

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W"]:
        """Ids that index ``names``; 255 where the teacher is not sure."""
        key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        if key not in self._packed:
            self._packed[key] = zlib.compress(self.teacher.label(image, self.sure).tobytes(), 1)
        labels = np.frombuffer(zlib.decompress(self._packed[key]), np.uint8)
        return labels.reshape(image.shape[:2])


def _same_padding(length: int, side: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: the smaller half before."""
    total = max((-(-length // stride) - 1) * stride + side - length, 0)
    return total // 2, total - total // 2
