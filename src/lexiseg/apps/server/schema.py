"""The bodies of requests and answers, as OpenAPI tells them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lexiseg.prompts import MAX_NAME_LENGTH

_TEXT = 100_000  # of labels between commas; their number and lengths are checked one by one

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
Share = Annotated[float, Field(ge=0, le=1)]
MaskFormat = Literal["png", "rle"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(
        min_length=1,
        description="A JPEG, PNG, WEBP, BMP, TIFF or GIF file in base64, or as a `data:` URL. "
        "Nothing is fetched: the address of a picture is refused.",
    )
    background: Share | Annotated[str, Field(max_length=_TEXT)] | list[Name] | None = Field(
        default=None,
        description="When a pixel is nobody's: null or `off`, a score from 0 to 1 that must be "
        "reached, or names of what else there is, such as `wall|floor`.",
    )
    model: Name | None = Field(
        default=None, description="One of /models; by default the first of them."
    )
    format: MaskFormat = Field(
        default="png", description="Masks as PNG in base64, or as COCO's run lengths."
    )


class SegmentRequest(_Request):
    """A picture, and the labels to look for."""

    labels: (
        Annotated[list[Name], Field(min_length=1, max_length=256)]
        | Annotated[
            dict[Name, Annotated[list[Name], Field(min_length=1, max_length=256)]],
            Field(min_length=1, max_length=256),
        ]
        | Annotated[str, Field(min_length=1, max_length=_TEXT)]
    ) = Field(
        description="A list; each label with its synonyms; or a text such as `dog, sofa|couch` or "
        "`voc20`.",
    )


class ReferRequest(_Request):
    """A picture, and expressions that each name something in it."""

    expressions: Annotated[list[Name], Field(min_length=1, max_length=64)] = Field(
        description="Such as `the dog on the left`."
    )


class LabelRow(BaseModel):
    """A label, the share of the picture that it covers, and the mean score there."""

    label: str
    share: Share
    confidence: Share


class RunLengths(BaseModel):
    """COCO's compressed run lengths, as pycocotools reads them."""

    size: list[int] = Field(min_length=2, max_length=2, description="Height and width.")
    counts: str


class Region(BaseModel):
    """The pixels of one label."""

    label: str
    area: int = Field(ge=1, description="Pixels.")
    bbox: list[int] = Field(
        min_length=4, max_length=4, description="Left, top, width and height in pixels, as COCO's."
    )
    score: Share
    segmentation: RunLengths


class SegmentAnswer(BaseModel):
    """A segmented picture."""

    model: str
    height: int
    width: int
    none: int = Field(description="What stands in the mask where there is no label.")
    labels: list[LabelRow] = Field(description="In the order of the request.")
    mask: str | None = Field(
        description="PNG in base64 whose values are positions in `labels`; null with `rle`."
    )
    regions: list[Region] | None = Field(
        description="Of each label that is there, with `rle`; else null."
    )


class FoundRow(BaseModel):
    """An expression and its mask."""

    expression: str
    score: Share
    share: Share
    box: list[int] | None = Field(
        description="x1, y1, x2, y2 in pixels, the last two just outside; null: nothing was found."
    )
    mask: str | None = Field(description="PNG in base64, white where it is; null with `rle`.")
    segmentation: RunLengths | None


class ReferAnswer(BaseModel):
    """A picture and the mask of each expression; masks may overlap."""

    model: str
    height: int
    width: int
    expressions: list[FoundRow]


class ModelRow(BaseModel):
    """A model that this server runs."""

    name: str
    default: bool
    refers: bool = Field(description="Whether it takes expressions.")


class Models(BaseModel):
    """All models that this server runs."""

    models: list[ModelRow]


class State(BaseModel):
    """Whether the server is alive, or ready."""

    status: Literal["ok"]


class Problem(BaseModel):
    """Why there is no result."""

    code: str = Field(description="For programs.")
    message: str = Field(description="For people.")


def request_body(request: type[_Request]) -> dict[str, Any]:
    """The OpenAPI of an endpoint's body, which comes as JSON or as a form with a file."""
    schema = request.model_json_schema()
    form = {name: dict(each) for name, each in schema["properties"].items()}
    form["image"] = {"type": "string", "format": "binary", "description": "The file."}
    for name in ("background", "model", "labels"):
        if name in form:
            text = {"type": "string", "minLength": 1, "maxLength": _TEXT}
            form[name] = {**text, "description": form[name].get("description", "")}
    return {
        "required": True,
        "content": {
            "application/json": {"schema": schema},
            "multipart/form-data": {"schema": {**schema, "properties": form}},
        },
    }
