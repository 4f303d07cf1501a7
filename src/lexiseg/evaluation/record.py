"""An evaluation that survives being killed, and the record of what came out.

FOLDER/DATASET-SPLIT/MODEL@PROTOCOL-DIGEST.json holds the scores, the confusion matrix and all that
is needed to repeat them; the digest is of all that decides the counts. Until it is written,
journals beside it hold what has been counted.
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

from lexiseg.atomic import write_atomically
from lexiseg.evaluation.evaluate import Evaluation, count_items
from lexiseg.evaluation.journal import Counted, Journal
from lexiseg.evaluation.metrics import ReferringScores, SemanticScores
from lexiseg.evaluation.semantic import SemanticEvaluation
from lexiseg.weights import state_sha256


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
        self.model = model
        self.facts = describe(evaluation)
        self.digest = hashlib.sha256(_json(self.facts).encode("utf-8", "replace")).hexdigest()
        place = folder / file_name(f"{self.facts['dataset']}-{self.facts['split']}")
        name = file_name(f"{model}@{self.facts['protocol']}")
        self.file = place / f"{name}-{self.digest[:8]}.json"
        self.journal = Journal(place, self.digest[:16])
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

    def missing(self) -> int:
        """How many items no process has counted yet."""
        return len(self.evaluation) - len(self.journal.read_all())

    def finish(self) -> dict[str, Any] | None:
        """The record, written to its file; None where other processes have still to count.

        Raises:
            ValueError: there is nothing that could be scored.
        """
        counted = self.journal.read_all()
        if len(counted) < len(self.evaluation):
            return self._written()
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
        scores = self.evaluation.scores(counted)
        record = {
            "model": self.model,
            **self.facts,
            **score_row(scores),
            "digest": self.digest,
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pillow": version("pillow"),
        }
        if self.todo:
            record["seconds_per_item"] = round(self._seconds / len(self.todo), 4)
        if isinstance(self.evaluation, SemanticEvaluation) and isinstance(scores, SemanticScores):
            counts = self.evaluation.matrix(counted).counts
            names = self.evaluation.dataset.class_names
            present = zip(names, scores.class_iou.tolist(), strict=True)
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
        "weights_sha256": state_sha256(segmenter.model.state_dict()),
        "protocol": next(n for n, p in protocols.items() if p is segmenter.protocol),
        "protocol_settings": repr(segmenter.protocol),
        "templates": segmenter.templates,
        **evaluation.describe(),
    }
    if isinstance(evaluation, SemanticEvaluation):
        prompts = segmenter.prompts(evaluation.vocabulary.labels, evaluation.background)
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


def file_name(text: str) -> str:
    """The text as a part of a file's name, of at most 120 bytes."""
    short = re.sub(r"[^\w.@+-]+", "_", text).encode("utf-8", "replace")[-120:]
    return short.decode("utf-8", "ignore").lstrip(".") or "_"


def _json(record: Any) -> str:
    return json.dumps(record, ensure_ascii=False)
