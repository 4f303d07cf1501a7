"""Results as the bodies of answers."""

import base64
import io
import json

import numpy as np
from fastapi import Request
from jaxtyping import Bool
from PIL import Image
from pycocotools import mask as coco_mask
from starlette.responses import Response

from lexiseg.apps.server.schema import (
    FoundRow,
    LabelRow,
    MaskFormat,
    ReferAnswer,
    Region,
    RunLengths,
    SegmentAnswer,
)
from lexiseg.outputs.coco import coco_regions
from lexiseg.outputs.outlines import box_of
from lexiseg.outputs.pictures import label_png
from lexiseg.referral import Referral
from lexiseg.result import Segmentation


def wants_png(request: Request) -> bool:
    """Whether the client asks for a picture and not for JSON."""
    accept = request.headers.get("accept", "")
    return "image/png" in accept and "application/json" not in accept


def png(data: bytes) -> Response:
    """A picture as the whole answer."""
    return Response(data, media_type="image/png")


def segmented(model: str, result: Segmentation, form: MaskFormat) -> Response:
    """A segmentation as JSON."""
    height, width = result.label_map.shape
    answer = SegmentAnswer(
        model=model,
        height=height,
        width=width,
        none=result.none,
        labels=[LabelRow(**row) for row in result.table()],
        mask=_text(label_png(result)) if form == "png" else None,
        regions=_regions(result) if form == "rle" else None,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def referred(model: str, result: Referral, form: MaskFormat) -> Response:
    """A referral as JSON."""
    height, width = result.masks.shape[1:]
    rows = zip(result.expressions, result.masks, result.scores, strict=True)
    answer = ReferAnswer(
        model=model,
        height=height,
        width=width,
        expressions=[_found(words, mask, float(score), form) for words, mask, score in rows],
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def mask_png(mask: Bool[np.ndarray, "H W"]) -> bytes:
    """White where the mask is."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return buffer.getvalue()


def _regions(result: Segmentation) -> list[Region]:
    return [
        Region(
            label=result.labels[each["category_id"] - 1],
            area=each["area"],
            bbox=each["bbox"],
            score=each["score"],
            segmentation=RunLengths(**each["segmentation"]),
        )
        for each in json.loads(coco_regions(result))["annotations"]
    ]


def _found(words: str, mask: Bool[np.ndarray, "H W"], score: float, form: MaskFormat) -> FoundRow:
    box = box_of(mask)
    return FoundRow(
        expression=words,
        score=round(min(max(score, 0.0), 1.0), 6),
        share=round(float(mask.mean()), 6),
        box=None if box is None else list(box),
        mask=_text(mask_png(mask)) if form == "png" else None,
        segmentation=_runs(mask) if form == "rle" else None,
    )


def _runs(mask: Bool[np.ndarray, "H W"]) -> RunLengths:
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return RunLengths(size=list(runs["size"]), counts=runs["counts"].decode("ascii"))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
