"""The log of a run: a line of JSON a step, and TensorBoard's events where they are wanted."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from lexiseg._extras import need
from lexiseg.atomic import write_atomically

METRICS_FILE = "metrics.jsonl"


class MetricsLog:
    """OUT/metrics.jsonl, a row a step; a run that goes on drops the rows it will write again.

    Args:
        out: the run's folder.
        start: the step the run goes on from.
        tensorboard: write events under OUT/tensorboard too.

    Raises:
        ValueError: the log that is there is damaged.
    """

    def __init__(self, out: Path, *, start: int, tensorboard: bool) -> None:
        path = out / METRICS_FILE
        rows = [row for row in read_metrics(path) if row["step"] < start]
        text = "".join(json.dumps(only_finite(row)) + "\n" for row in rows)
        write_atomically(path, text.encode())
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
        """Log what is known of a step, at once; a number that is not finite is null in the file."""
        self._file.write(json.dumps({"step": step, **only_finite(row)}) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in row.items():
                self._events.add_scalar(name, value, step)


def only_finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without NaN and infinities, which JSON does not know: they become None."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that was cut off is left out.

    Raises:
        ValueError: another line is damaged.
    """
    rows: list[dict[str, Any]] = []
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
        elif line.endswith(b"\n"):
            raise ValueError(
                f"{path}: line {number} is damaged; mend it, or move the file away to go on "
                "without the rows so far"
            )
    return rows
