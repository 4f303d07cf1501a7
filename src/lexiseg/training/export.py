"""From the folder of a run to a file of weights that can be given away, and its card."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, get_args

from lexiseg.atomic import write_atomically
from lexiseg.hub import is_address
from lexiseg.segmenter import Segmenter
from lexiseg.training.checkpoints import WEIGHTS_FILE, best_of, checkpoints_of
from lexiseg.training.folder import RUN_FILE
from lexiseg.weights import add_metadata, state_sha256

Choice = Literal["final", "best", "last"]
# Licences that the hub knows by these names; any other is "other" to it.
LICENCES = (
    *("apache-2.0", "bsd-2-clause", "bsd-3-clause", "mit", "cc0-1.0", "cc-by-4.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-2.0", "gpl-3.0", "unknown"),
)
_MARK = "<!-- written by lexiseg export-weights, which writes over it -->"
_SCORES = ("mIoU", "pAcc", "mAcc", "fwIoU", "oIoU", "bIoU")


@dataclass(frozen=True)
class _Found:
    """Weights of a run, and when they were made."""

    path: Path
    checkpoint: str | None
    score: float | None


def export_weights(
    run: Path,
    out: Path,
    *,
    choice: str = "final",
    licence: str = "unknown",
    records: Sequence[Path] = (),
) -> Path:
    """Write a run's weights to ``out`` and their card beside it, over what it wrote before.

    Args:
        run: the folder of the run.
        out: ends with ``.safetensors``; ``Segmenter.from_pretrained`` loads it.
        choice: "final" for what the finished run gave, "best" for the checkpoint with the best
            score so far, "last" for the newest.
        licence: of the weights, such as "cc-by-nc-4.0"; the data decide what it can be.
        records: of ``lexiseg evaluate`` with these weights, to be shown on the card.

    Returns:
        The card.

    Raises:
        ValueError: ``run`` holds no run, or not these weights; ``out`` cannot be, or a text of
            one's own is where the card would be; or a record is of other weights or damaged.
    """
    if out.suffix != ".safetensors":
        raise ValueError(f"{out} came; the name of the file must end with .safetensors")
    card = out.with_suffix(".md")
    _check_card(card)
    facts = _read_run(run)
    found = _find(run, choice)
    scores = _read_scores(records, found.path)
    out.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"licence": licence, "lexiseg": version("lexiseg")}
    if "recipe" in facts:
        metadata["recipe"] = str(facts["recipe"])
    if found.checkpoint is not None:
        metadata["checkpoint"] = found.checkpoint
    metadata = add_metadata(found.path, out, metadata)
    write_atomically(card, _card(out, facts, metadata, found, scores).encode())
    return card


def _check_card(card: Path) -> None:
    """Refuse to write over what ``export_weights`` did not write."""
    if card.is_file() and _MARK.encode() not in card.read_bytes():
        raise ValueError(
            f"{card} is not a card of lexiseg export-weights and would be lost; move it away, or "
            "give the weights another name"
        )


def _read_run(run: Path) -> dict[str, Any]:
    return _read_json(run / RUN_FILE, f"{run} holds no run of lexiseg train")


def _stages(run: Path) -> list[Path]:
    """The folders of a run and of what followed it, as far as that has begun."""
    folders = [run]
    while True:
        following = _read_run(folders[-1]).get("next")
        if not isinstance(following, str) or Path(following).name != following:
            return folders
        folder = folders[-1] / following
        if not (folder / RUN_FILE).is_file():
            return folders
        folders.append(folder)


def _find(run: Path, choice: str) -> _Found:
    """The chosen weights; a run of several stages has the last of its checkpoints in the last."""
    if choice not in get_args(Choice):
        raise ValueError(f"{choice!r} came; choose {', '.join(get_args(Choice))}")
    final = run / WEIGHTS_FILE
    if choice == "final" and not final.is_file():
        raise ValueError(f"{run} is not finished; take the best or the last checkpoint")
    begun = [stage for stage in _stages(run) if checkpoints_of(stage)]
    if not begun:
        if choice == "final":
            return _Found(final, None, None)
        raise ValueError(f"{run} has no checkpoint yet")
    # What a finished run gives is the best checkpoint's, which stays when older ones go.
    newest, best = checkpoints_of(begun[-1])[-1], best_of(begun[-1])
    checkpoint = newest if choice == "last" or best is None else best
    path = final if choice == "final" else checkpoint.weights
    return _Found(path, checkpoint.folder.relative_to(run).as_posix(), checkpoint.score)


def _read_scores(records: Sequence[Path], weights: Path) -> list[dict[str, Any]]:
    """Records of evaluations, each checked to be of these weights."""
    if not records:
        return []
    rows = [_read_json(path, f"{path} holds no record of lexiseg evaluate") for path in records]
    digest = state_sha256(Segmenter.from_pretrained(weights, device="cpu").model.state_dict())
    for path, row in zip(records, rows, strict=True):
        for name in _SCORES:
            if type(row.get(name)) not in (int, float, type(None)):
                raise ValueError(f"{path} is damaged: {name} is {row[name]!r}; evaluate anew")
        if row.get("weights_sha256") != digest:
            raise ValueError(f"{path} has the scores of other weights; evaluate {weights} first")
    return rows


def _read_json(path: Path, complaint: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{complaint} ({path.name}: {_reason(error)})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{complaint} ({path.name} holds no JSON object)")
    return content


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _card(
    weights: Path,
    facts: Mapping[str, Any],
    metadata: Mapping[str, str],
    found: _Found,
    scores: Sequence[Mapping[str, Any]],
) -> str:
    """The card in Markdown, with the lines on top that the hub reads."""
    config = _without_folders(facts.get("config", {}))
    licence = metadata["licence"]
    known = licence.lower() in LICENCES
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    rows = {
        "model": metadata.get("model"),
        "recipe": metadata.get("recipe"),
        "data": _without_folders(facts.get("data")),
        "checkpoint": found.checkpoint,
        "score on the validation split": found.score and round(found.score, 4),
        "licence": licence,
        "lexiseg": metadata["lexiseg"],
        "SHA-256": digest,
        "SHA-256 of the encoder it belongs to": metadata.get("encoder_sha256"),
    }
    lines = [
        "---",
        f"license: {licence.lower() if known else 'other'}",
        *([] if known else [f"license_name: {_slug(licence)}"]),
        "library_name: lexiseg",
        "pipeline_tag: image-segmentation",
        "---",
        _MARK,
        f"# {weights.stem}",
        "",
        "Segments photographs by words, with lexiseg.",
        "",
        "```python",
        "from lexiseg import Segmenter",
        "",
        f"segmenter = Segmenter.from_pretrained({weights.name!r})  # or hf:OWNER/NAME on the hub",
        'segmenter("photo.jpg", ["dog", "grass", "sky"]).plot().save("dog.png")',
        "```",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {_cell(value)} |" for name, value in rows.items() if value is not None),
        *_score_table(scores),
        "",
        "## Configuration",
        "",
        "```json",
        json.dumps(config, indent=1, ensure_ascii=False),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _score_table(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    if not scores:
        return []
    columns = [name for name in _SCORES if any(name in row for row in scores)]
    lines = [
        "",
        "## Scores",
        "",
        f"| data set | split | protocol | items | {' | '.join(columns)} |",
        f"| --- | --- | --- | ---: |{' ---: |' * len(columns)}",
    ]
    for row in scores:
        about = [
            str(_without_folders(row.get(key, "")))
            for key in ("dataset", "split", "protocol", "items")
        ]
        values = ["" if row.get(name) is None else f"{row[name]:.4f}" for name in columns]
        lines.append(f"| {' | '.join(map(_cell, [*about, *values]))} |")
    return lines


def _without_folders(value: Any) -> Any:
    """Paths cut to their last part: where they were made is nobody's business."""
    if isinstance(value, Mapping):
        return {key: _without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    if isinstance(value, str) and not is_address(value) and "://" not in value:
        return PureWindowsPath(value).name or value  # which knows both kinds of slashes
    return value


def _slug(text: str) -> str:
    """The text in the letters that the hub allows in a licence's name."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.") or "unstated"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
