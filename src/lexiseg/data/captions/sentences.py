"""Captions without photographs, out of a text file or any JSON that captions come in."""

from pathlib import Path
from typing import Any

from lexiseg.data.json_files import read_json

FORM = (
    'captions: a text file with one a line, or JSON: a list of texts, COCO\'s {"annotations": '
    '[{"caption"}]}, Karpathy\'s {"images": [{"sentences": [{"raw"}]}]}, or {"NAME": {"captions"}}'
)


def read_sentences(path: str | Path) -> list[str]:
    """The captions of a file in their order, white space put in order, blank ones left out.

    Raises:
        ValueError: the file cannot be read, is of another form, or holds none.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        try:
            found = _from_json(read_json(path, form=FORM))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} cannot be understood ({error!r}); it holds {FORM}") from error
    else:
        try:
            found = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"{path} cannot be read ({reason}); it holds {FORM}") from error
    if not all(isinstance(text, str) for text in found):
        raise ValueError(f"{path} holds a caption that is no text; it holds {FORM}")
    sentences = [" ".join(text.split()) for text in found]
    sentences = [text for text in sentences if text]
    if not sentences:
        raise ValueError(f"{path} holds no captions; it holds {FORM}")
    return sentences


def _from_json(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    if "annotations" in content:
        return [row["caption"] for row in content["annotations"]]
    if "images" in content:
        return [each["raw"] for row in content["images"] for each in row["sentences"]]
    return [text for row in content.values() for text in row["captions"]]
