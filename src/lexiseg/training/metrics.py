"""The log of a run: a line of JSON a step, and TensorBoard's events where they are wanted."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from lexiseg._extras import need


class MetricsLog:
    """OUT/metrics.jsonl, a row a step; a run that goes on drops the rows it will write again.

    Args:
        out: the run's folder.
        start: the step the run goes on from.
        tensorboard: write events under OUT/tensorboard too.
    """

    def __init__(self, out: Path, *, start: int, tensorboard: bool) -> None:
        path = out / "metrics.jsonl"
        rows = [row for row in read_metrics(path) if row["step"] < start]
        partial = path.with_name(".metrics.jsonl.partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        partial.replace(path)
        self._events: Any = None
        if tensorboard:
            need("tensorboard", extra="train", purpose="tensorboard=true")
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(out / "tensorboard"), purge_step=start)
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if self._events is not None:
            self._events.close()

    def write(self, step: int, row: dict[str, float]) -> None:
        """Log what is known of a step, at once."""
        self._file.write(json.dumps({"step": step, **row}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in row.items():
                self._events.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that was cut off is left out."""
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
