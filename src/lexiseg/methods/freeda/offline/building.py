"""A bank from many captions: one file a finished caption, so that a killed job goes on.

BANK.parts/job.json            what decides the outcomes; a job goes on only if it is the same
BANK.parts/000/000000012.safetensors   what caption 12 gave, put into its place whole
BANK/                          the bank, once all captions are done; the parts are removed then
BANK/build.json                the job that it came from, and what was left out

The bank is made of the parts in the order of the captions: who worked at them, when, and how often
the job was killed makes no difference to a bit of it.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lexiseg.atomic import write_atomically
from lexiseg.methods.freeda.bank import BankKind, PrototypeBank, merge, write_bank
from lexiseg.methods.freeda.offline.collection import Collector
from lexiseg.methods.freeda.offline.tasks import Outcome, Task

JOB, BUILT = "job.json", "build.json"
CAPTIONS_A_CHUNK = 2048  # of the bank, that are in memory at a time
Packed = tuple[bytes, bytes | None]  # an outcome, and its image as a file
Engine = Callable[[Sequence[Task]], Iterator[Packed]]


@dataclass(frozen=True)
class Build:
    """What became of the captions of a finished job.

    Attributes:
        captions: how many there were.
        rows: of the bank.
        words: how many different ones the bank has.
        left_out: how many words were left out, by the reason.
    """

    captions: int
    rows: int
    words: int
    left_out: Mapping[str, int]


class Job:
    """The parts of a bank in the making.

    Args:
        out: the bank's folder.
        tasks: the captions.
        identity: what decides the outcomes, of the collector.
        kind: of the bank.
    """

    def __init__(
        self, out: Path, tasks: Sequence[Task], identity: Mapping[str, Any], kind: BankKind
    ) -> None:
        self.out, self.tasks, self.kind = out, tasks, kind
        self.parts = out.with_name(out.name + ".parts")
        listed = "\n".join(json.dumps(asdict(task), sort_keys=True) for task in tasks)
        digest = hashlib.sha256(listed.encode()).hexdigest()
        self.identity = json.loads(json.dumps({**identity, "captions": digest}))

    def begin(self) -> Build | None:
        """Make the folder, or go on in it; the finished build where the bank is there already.

        Raises:
            ValueError: the bank, or the parts, are of another job.
        """
        finished = _read(self.out / BUILT)
        if finished is not None:
            self._check(finished.get("job", {}), self.out)
            return Build(**finished["build"])
        if self.out.exists():
            raise ValueError(
                f"{self.out} is there and was not made by this job; choose another name, or add "
                "to it by merging"
            )
        self.parts.mkdir(parents=True, exist_ok=True)
        begun = _read(self.parts / JOB)
        if begun is None:
            content = json.dumps(self.identity, indent=1) + "\n"
            write_atomically(self.parts / JOB, content.encode())
        else:
            self._check(begun, self.parts)
        return None

    def work(self, engine: Engine, images: Path | None = None) -> Iterator[Task]:
        """Do what is not done yet; each caption is on disk when it comes out here.

        Args:
            engine: works at captions, in any order.
            images: folder for the generated images, where they are kept.
        """
        waiting = {task.index: task for task in self.tasks if self._outcome(task) is None}
        for data, png in engine(list(waiting.values())):
            task = Outcome.unpack(data).task
            if png is not None and images is not None:
                _write(images / f"{task.index:09d}.png", png)
            _write(self._part(task), data)
            yield task

    @property
    def done(self) -> int:
        """How many captions are finished."""
        return sum(self._outcome(task) is not None for task in self.tasks)

    def finish(self) -> Build:
        """Make the bank of the parts, and remove them.

        Raises:
            ValueError: a caption is not done, or none gave a prototype.
        """
        chunks, words, reasons = [], set[str](), Counter[str]()
        for start in range(0, len(self.tasks), CAPTIONS_A_CHUNK):
            tasks = self.tasks[start : start + CAPTIONS_A_CHUNK]
            outcomes = [self._finished(task) for task in tasks]
            reasons.update(why for each in outcomes for _, why in each.left_out)
            words.update(word for each in outcomes for word in each.words)
            rows = [each for each in outcomes if each.words]
            if rows:
                chunks.append(self.parts / f"chunk-{start:09d}")
                self._write_chunk(chunks[-1], rows)
        if not chunks:
            raise ValueError(
                f"none of {len(self.tasks)} captions gave a prototype: {dict(reasons)}; give other "
                "captions, or a list of words that are in them"
            )
        whole = self.parts / "whole"
        bank = merge(chunks, whole)
        build = Build(len(self.tasks), len(bank), len(words), dict(sorted(reasons.items())))
        del bank
        content = json.dumps({"job": self.identity, "build": asdict(build)}, indent=1)
        (whole / BUILT).write_text(content + "\n", encoding="utf-8")
        whole.replace(self.out)
        shutil.rmtree(self.parts)
        return build

    def _write_chunk(self, path: Path, outcomes: Sequence[Outcome]) -> PrototypeBank:
        return write_bank(
            path,
            torch.cat([each.keys for each in outcomes]),
            torch.cat([each.prototypes for each in outcomes]),
            [record for each in outcomes for record in each.records()],
            self.kind,
        )

    def _finished(self, task: Task) -> Outcome:
        outcome = self._outcome(task)
        if outcome is None:
            raise ValueError(f"caption {task.index + 1} is not done; run the same command again")
        return outcome

    def _outcome(self, task: Task) -> Outcome | None:
        """What a caption gave; None where it is not done, or its file is damaged."""
        try:
            outcome = Outcome.unpack(self._part(task).read_bytes())
        except (OSError, ValueError):
            return None
        return outcome if outcome.task == task else None

    def _part(self, task: Task) -> Path:
        name = f"{task.index:09d}.safetensors"
        return self.parts / f"{task.index // 1000:06d}" / name

    def _check(self, theirs: Mapping[str, Any], where: Path) -> None:
        names = {*theirs, *self.identity}
        other = sorted(name for name in names if theirs.get(name) != self.identity.get(name))
        if other:
            raise ValueError(
                f"{where} belongs to another job: {', '.join(other)} differ; choose another name "
                "for the bank, or remove it"
            )


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file; None where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); remove its folder") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no JSON object; remove its folder")
    return content


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def local_engine(collector: Collector) -> Engine:
    """One caption after the other, in this process."""

    def run(tasks: Sequence[Task]) -> Iterator[Packed]:
        for task in tasks:
            outcome = collector(task)
            yield outcome.pack(), outcome.png()

    return run
