"""An evaluation that survives being killed, and the record of what came out.

FOLDER/DATASET-SPLIT/MODEL@PROTOCOL.json holds the scores, the confusion matrix and all that is
needed to repeat them. Until it is written, journals beside it hold what has been counted.
"""

import hashlib
import json
import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lexiseg.evaluation.evaluate import Evaluation, SemanticEvaluation, count_items
from lexiseg.evaluation.journal import Counted, Journal
from lexiseg.evaluation.metrics import ReferringScores, SemanticScores
from lexiseg.prompts import build_prompts
from lexiseg.result import write_atomically
from lexiseg.segmenter import Segmenter

_POLL_SECONDS = 0.2


class RecordedEvaluation:
    """One model on one data set, counted by one process or by several together.

    Args:
        evaluation: what is counted.
        model: its name in the record.
        folder: where records go.
        shard: (i, n): of each n items in a row, the i-th, from 0, are this process's.

    Attributes:
        todo: items that this process has to count; those already in a journal are left out.
        file: where the record will be.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        model: str,
        folder: Path,
        *,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.evaluation = evaluation
        self.facts = {"model": model, **describe(evaluation)}
        dataset = f"{self.facts['dataset']}-{self.facts['split']}"
        name = file_name(f"{model}@{self.facts['protocol']}")
        self.file = folder / file_name(dataset) / f"{name}.json"
        self.digest = hashlib.sha256(_json(self.facts).encode("utf-8", "replace")).hexdigest()
        self.journal = Journal(self.file.parent, f"{name}.{self.digest[:16]}")
        already = self.journal.read_all()
        first, step = shard
        self.todo = [i for i in range(first, len(evaluation), step) if i not in already]
        self._seconds = 0.0

    def run(self, *, workers: int = 0, on_item: Callable[[], None] = lambda: None) -> None:
        """Count this process's items; each is in the journal before the next begins."""
        start = time.perf_counter()
        with self.journal as journal:
            for index, item in count_items(self.evaluation, self.todo, workers=workers):
                journal.write(index, item)
                on_item()
        self._seconds = time.perf_counter() - start

    def finish(self, *, wait: bool = False) -> dict[str, Any] | None:
        """The record, written to its file; None where other processes have still to count.

        Args:
            wait: until they have.

        Raises:
            ValueError: there is nothing that could be scored.
        """
        while True:
            counted = self.journal.read_all()
            if len(counted) == len(self.evaluation):
                break
            written = self._written()
            if written is not None:
                return written
            if not wait:
                return None
            time.sleep(_POLL_SECONDS)
        text = _json(self._record(counted)) + "\n"
        write_atomically(self.file, text.encode("utf-8", "backslashreplace"))
        self.journal.remove_all()
        return dict(json.loads(text))

    def _written(self) -> dict[str, Any] | None:
        """The record that another process of this evaluation made, after the last journal went."""
        if not self.todo or self.journal.read_all():
            return None
        try:
            record = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return dict(record) if record.get("digest") == self.digest else None

    def _record(self, counted: Counted) -> dict[str, Any]:
        record = {
            **self.facts,
            **score_row(self.evaluation.scores(counted)),
            "digest": self.digest,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": version("pillow"),
        }
        if self.todo:
            record["seconds_per_item"] = round(self._seconds / len(self.todo), 4)
        if isinstance(self.evaluation, SemanticEvaluation):
            counts = self.evaluation.matrix(counted).counts
            iou = self.evaluation.scores(counted).class_iou.tolist()
            names = self.evaluation.dataset.class_names
            present = zip(names, iou, strict=True)
            record["class_IoU"] = {name: value for name, value in present if value == value}
            rows, columns = counts.nonzero()
            record["confusion"] = np.stack([rows, columns, counts[rows, columns]], axis=1).tolist()
        return record


def describe(evaluation: Evaluation) -> dict[str, Any]:
    """All that decides the counts."""
    segmenter, dataset = evaluation.segmenter, evaluation.dataset
    protocols = segmenter.model.protocols
    facts = {
        "dataset": dataset.name,
        "split": dataset.split,
        "items": len(dataset),
        "lexiseg": version("lexiseg"),
        "torch": torch.__version__,
        "device": segmenter.device.type,
        "weights_sha256": weights_digest(segmenter),
        "protocol": next(n for n, p in protocols.items() if p is segmenter.protocol),
        "protocol_settings": repr(segmenter.protocol),
        "templates": segmenter.templates,
        **evaluation.describe(),
    }
    if isinstance(evaluation, SemanticEvaluation):
        prompts = build_prompts(evaluation.vocabulary.labels, segmenter.templates)
        facts["prompts_sha256"] = hashlib.sha256(_json(prompts).encode()).hexdigest()
    return facts


def score_row(scores: SemanticScores | ReferringScores) -> dict[str, Any]:
    """Scores under the names by which tables and ``--json`` give them."""
    if isinstance(scores, ReferringScores):
        row: dict[str, Any] = {
            "mIoU": scores.mean_iou,
            "oIoU": scores.overall_iou,
            "prec": {str(at): share for at, share in scores.precision.items()},
        }
    else:
        row = {
            "mIoU": scores.mean_iou,
            "pAcc": scores.pixel_accuracy,
            "mAcc": scores.mean_accuracy,
            "fwIoU": scores.frequency_weighted_iou,
        }
    if scores.boundary_iou is not None:
        row["bIoU"] = scores.boundary_iou
    return row


def weights_digest(segmenter: Segmenter) -> str:
    """SHA-256 of all weights by name, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(segmenter.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_name(text: str) -> str:
    """The text as the name of a file."""
    return re.sub(r"[^\w.@+-]+", "_", text)[-120:].lstrip(".") or "_"


def _json(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False)
