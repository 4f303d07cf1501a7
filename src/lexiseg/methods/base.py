"""All that the rest of the library knows of a method."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from lexiseg.images import Preprocess
from lexiseg.weights import KeyFate, Source, read_weights

Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Tiling:
    """How a prepared image is cut into windows.

    Attributes:
        window: side of the square window, in pixels.
        stride: step between windows, in pixels; at most ``window``.
        whole_size: side to which the whole image is squashed as one more view, whose scores are
            averaged with those of the windows; None leaves that view out.
        squash: (height, width) to which the image is stretched before it is cut, its aspect ratio
            lost; None cuts it as it is. The whole view is not made from the stretched image.
        input_size: side to which each view is resized before the model sees it; None leaves it.
    """

    window: int
    stride: int
    whole_size: int | None = None
    squash: tuple[int, int] | None = None
    input_size: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.window:
            raise ValueError(
                f"windows of {self.window} pixels every {self.stride} pixels do not cover an "
                "image; the stride must be from 1 to the window"
            )


@dataclass(frozen=True)
class Protocol:
    """A named way to run a method.

    Attributes:
        preprocess: how pixels are prepared.
        tiling: how windows slide; None for the whole image at once.
        texts_at_most: so many texts take part in a view; None for all.
        first_synonym: True where a label's first name alone is encoded, as some authors do.
        authors: whose names for the classes of a benchmark are meant; None for the default ones.
        thresholds: of a benchmark by name, the score that the best label must reach.
        rule: which of the method's ways to make logits; "" is its own.
        background_inside: a threshold is the method's business: it gives one more map, and what
            that wins is none of the labels.
        logits_blended: logits, not scores, are averaged over windows and brought to the
            photograph's size, and become scores there by softmax.
    """

    preprocess: Preprocess
    tiling: Tiling | None = None
    texts_at_most: int | None = None
    first_synonym: bool = False
    authors: str | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    rule: str = ""
    background_inside: bool = False
    logits_blended: bool = False


@dataclass(frozen=True)
class Texts:
    """A label set as a method sees it, computed once and opaque outside the method.

    Attributes:
        features: one vector of length one for each text, in the encoder's joint space.
        at_most: so many texts take part in an image, if the method can leave some out: those that
            fit it best; None for all.
        rule: which of the method's ways to make logits; "" is its own.
        background: where the method itself tells the background from the texts, the score that the
            best text must reach; it then gives one more map, the last. None: there is no such map.

    Raises:
        ValueError: ``at_most`` is below 1.
    """

    features: Float[Tensor, "T D"]
    at_most: int | None = None
    rule: str = ""
    background: float | None = None

    def __post_init__(self) -> None:
        if self.at_most is not None and self.at_most < 1:
            raise ValueError(f"at_most {self.at_most} came; at least 1 text must take part")

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class View:
    """One of the things that a model saw on the way to its masks, of one image and every text.

    Attributes:
        name: of the step, such as "block 1, correlation".
        maps: how well each text fits each place; only differences within a map mean something.
        points: of each text, places that the model chose: x and y as parts of the map's width and
            height, 0 to 1.
        masks: of each text, regions that it chose, on a grid of their own.
        regions: names of the maps, where they are of parts of the picture and not of the texts.
    """

    name: str
    maps: Float[Tensor, "T h w"]
    points: tuple[Float[Tensor, "_ 2"], ...] = ()
    masks: tuple[Bool[Tensor, "_ _ _"], ...] = ()
    regions: tuple[str, ...] = ()


class SegmentationModel(nn.Module):
    """A method: images and texts in, one map of logits for each text out.

    Attributes:
        protocols: ways to run the method by name; "default" always, "published" where the authors
            evaluate in another way.
        templates: sentences into which a label is put, such as "a photo of a {}".
        activation: what turns logits into scores between 0 and 1.
        exclusive: True where texts compete for a pixel (argmax), False where each is judged alone
            (threshold).
        threshold: the score from which a text holds where each is judged alone.
        parts: the files from which the model can start, such as "clip" and "sam"; none for most.
    """

    protocols: Mapping[str, Protocol]
    templates: tuple[str, ...] = ("{}",)
    activation: ClassVar[Activation] = "softmax"
    exclusive: ClassVar[bool] = True
    threshold: ClassVar[float] = 0.5
    parts: tuple[str, ...] = ()

    @property
    def preprocess(self) -> Preprocess:
        """How pixels must arrive by default, and the way back."""
        return self.protocols["default"].preprocess

    def encode_texts(self, prompts: Sequence[Sequence[str]]) -> Texts:
        """Features of a label set: ``prompts`` holds the sentences of each label in turn."""
        raise NotImplementedError

    def forward(self, images: Float[Tensor, "B 3 H W"], texts: Texts) -> Float[Tensor, "B T h w"]:
        """Logits on the method's own grid, in training and in evaluation alike."""
        raise NotImplementedError

    def views(self, image: Float[Tensor, "1 3 H W"], texts: Texts) -> Iterator[View]:
        """What the model saw of one image, step by step; the last view is its answer."""
        yield View("logits", self(image, texts)[0])

    def from_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This model's names for a state dict under the authors'; its own stay as they are."""
        return dict(state)

    def read_part(self, part: str, source: Source) -> Any:
        """What :meth:`initialise` gets of one of ``parts``: the state dict of its file."""
        return read_weights(source)

    def initialise(self, states: Mapping[str, Any]) -> tuple[KeyFate, ...]:
        """Start from the state dicts of some of ``parts``; says where each tensor went."""
        raise NotImplementedError
