"""Frozen teachers for the bundled encoder, which only training reads.

* DeepLabV3 on MobileNetV2 knows PASCAL VOC's 21 classes of pixels: Chen et al., "Rethinking Atrous
  Convolution for Semantic Image Segmentation" (2017), and Sandler et al., "MobileNetV2" (CVPR
  2018), at output stride 16 and without the atrous pyramid's dilated arms. Its weights are a file
  of arrays with the batch norms folded in, under PyTorch's names for MobileNetV2.
* ImageNet's classifier knows 1,000 names of whole pictures. Before its pooling, each place of the
  map is classified by itself (as in class activation maps: Zhou et al., CVPR 2016).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from torch import Tensor, nn

from lexiseg.encoders.lite import LITE_PREPROCESS
from lexiseg.encoders.lite_checkpoints import read_classifier
from lexiseg.id_maps import read_ids, write_ids
from lexiseg.weights import state_sha256

TEACHER_NAMES = (
    *("background", "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep"),
    *("sofa", "train", "tv monitor"),
)
LONGEST = 512  # pixels; the teacher was trained on 513
UNSURE = 255
IMAGENET_LONGEST = (384, 640)  # pixels; things that fill the picture, and smaller ones
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

    names = TEACHER_NAMES
    dtype = np.uint8

    def checksum(self) -> str:
        """Of its weights."""
        return state_sha256(self._weights)

    @classmethod
    def read(cls, path: Path) -> "DeepLabTeacher":
        """The teacher in an ``.npz`` file.

        Raises:
            ValueError: there is no such file, or it is damaged.
        """
        if not path.is_file():
            raise ValueError(f"{path} is missing: the recipe's teacher")
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls({name: torch.from_numpy(file[name]) for name in file.files})
        except Exception as error:  # numpy lets through whatever a damaged file brings about
            raise ValueError(f"{path} is damaged ({error}); get the teacher again") from error

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


class ImageNetTeacher(nn.Module):
    """Scores of ImageNet's 1,000 names at each place of EfficientNet-Lite0's last map.

    Args:
        backbone: the network without its classifier; it gives a list of maps, the last is used.
        widen: the 1x1 convolution and batch norm behind it, as a module.
        classify: the linear layer.
        names: of its classes, each with its synonyms.
    """

    def __init__(
        self,
        backbone: nn.Module,
        widen: nn.Module,
        classify: nn.Linear,
        names: Sequence[Sequence[str]],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.widen = widen
        self.classify = classify
        self.names = tuple(dict.fromkeys(first for first, *_ in names))
        self.synonyms: dict[str, tuple[str, ...]] = {}
        for first, *others in names:
            if others:
                self.synonyms[first] = (*self.synonyms.get(first, ()), *others)
        position = {name: index for index, name in enumerate(self.names)}
        self._position = torch.tensor([position[first] for first, *_ in names])
        self.eval()

    dtype = np.uint16

    def checksum(self) -> str:
        """Of its weights."""
        return state_sha256(self.state_dict())

    @classmethod
    def read(cls, labels: Path) -> "ImageNetTeacher":
        """The classifier that the bundled encoder starts from.

        Args:
            labels: a file with "background" and then a line of synonyms for each class.

        Raises:
            ValueError: there is no such file, or the weights are not installed.
        """
        if not labels.is_file():
            raise ValueError(f"{labels} is missing: the names of the recipe's teacher")
        lines = labels.read_text(encoding="utf-8").splitlines()[1:]
        return cls(*read_classifier(), [line.split(", ") for line in lines])

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B K h w"]:
        """Probabilities of the names, each place by itself."""
        features = F.relu6(self.widen(self.backbone(images)[-1]))
        return self.classify(features.movedim(1, -1)).softmax(dim=-1).movedim(-1, 1)

    def label(self, image: UInt8[np.ndarray, "H W 3"], sure: float) -> UInt16[np.ndarray, "H W"]:
        """Positions in ``names``; 65535 where none has the probability ``sure``."""
        height, width = image.shape[:2]
        total = torch.zeros(())
        for longest in IMAGENET_LONGEST:
            scale = longest / max(height, width) / 32
            sides = [max(1, round(side * scale)) * 32 for side in (width, height)]
            pixels = torch.tensor(np.array(Image.fromarray(image).resize((sides[0], sides[1]))))
            images = LITE_PREPROCESS.normalise(pixels.permute(2, 0, 1).float())[None]
            scores = self(images)
            if total.dim():
                total = F.interpolate(total, size=scores.shape[-2:], mode="bilinear")
            total = total + scores / len(IMAGENET_LONGEST)
        probability, place = total[0].max(dim=0)
        label_map = self._position[place]
        label_map[probability < sure] = 65535
        small = Image.fromarray(label_map.numpy().astype(np.uint16))
        return np.array(small.resize((width, height), Image.Resampling.NEAREST))


class TeacherLabels:
    """What a teacher is sure of on each photograph, computed once and kept on disk.

    A file of a few kB a photograph; nothing is ever removed. Any number of processes may share the
    folder.

    Args:
        teacher: the network.
        folder: where labels are kept, made when it is needed.
        sure: the probability that a class must reach.
    """

    def __init__(
        self, teacher: DeepLabTeacher | ImageNetTeacher, folder: Path, *, sure: float = 0.6
    ) -> None:
        self.teacher = teacher
        self.names: tuple[str, ...] = teacher.names
        self.sure = sure
        self.folder = folder / f"{type(teacher).__name__}-{teacher.checksum()[:16]}-{sure:g}"

    def __call__(
        self, image: UInt8[np.ndarray, "H W 3"]
    ) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
        """Ids that index ``names``; 255, or 65535 in 16 bits, where the teacher is not sure."""
        digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=20)
        digest.update(np.ascontiguousarray(image).data)
        name = digest.hexdigest()
        path = self.folder / name[:2] / f"{name}.npz"
        labels = read_ids(path, image.shape[:2])
        if labels is None:
            labels = self.teacher.label(image, self.sure)
            write_ids(path, labels)
        return labels.astype(self.teacher.dtype)


def _same_padding(length: int, side: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: the smaller half before."""
    total = max((-(-length // stride) - 1) * stride + side - length, 0)
    return total // 2, total - total // 2
