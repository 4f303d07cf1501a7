"""What stands in ``model.json``, beside the graphs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FORMAT = 1
DESCRIPTION = "model.json"


@dataclass(frozen=True)
class Description:
    """What the graphs do not say of their model; the file ``model.json`` beside them.

    Attributes:
        model: its name.
        activation: what turns logits into scores.
        exclusive: True where labels compete for a pixel.
        threshold: the score from which a label holds where each is judged alone.
        templates: sentences into which a label is put.
        tokenizer: which one the text graph was made for.
        context_length: most tokens of a prompt.
        preparation: how pixels are prepared.
        int8: which graphs hold matrices of int8; none where all is float32.
        parity: what was measured at the export.
        version: of the library that exported it.
    """

    model: str
    activation: Literal["softmax", "sigmoid"]
    exclusive: bool
    threshold: float
    templates: tuple[str, ...]
    tokenizer: Literal["wordpiece", "byte_pairs"]
    context_length: int
    preparation: dict[str, Any]
    int8: tuple[str, ...] = ()
    parity: dict[str, float] | None = None
    version: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """That of an exported folder.

        Raises:
            ValueError: the folder holds no export, or one of another format.
        """
        path = folder / DESCRIPTION
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{str(folder)!r} holds no exported model; lexiseg export MODEL --onnx FOLDER"
            ) from error
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is of another format; export the model again")
        try:
            for name in ("templates", "int8"):
                content[name] = tuple(content[name])
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); export the model again") from error

    def as_json(self) -> str:
        """The text of the file."""
        return json.dumps({"format": FORMAT, **self.__dict__}, indent=1, ensure_ascii=False) + "\n"
