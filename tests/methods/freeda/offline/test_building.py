import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg.methods.freeda.bank import PrototypeBank, merge, verify
from lexiseg.methods.freeda.offline.building import Build, Engine, Job, Packed, local_engine
from lexiseg.methods.freeda.offline.tasks import Outcome, Task, make_tasks
from tests.methods.freeda.offline import build_worker
from tests.methods.freeda.offline.tiny_encoders import Colours
from tests.parity import REPOSITORY

CAPTIONS = ["a dog", "nothing", "a cat and a dog", "two birds", "a dog again", "the cat"]
COLOURS = Colours()
SENTENCES = [
    *("A dog and two cats on a sofa.", "A red traffic light above parked cars."),
    *("Men ride bicycles past a large building.", "Nothing of interest here at all."),
    *("A bowl of fruit on a wooden table.", "A woman with an umbrella on the beach."),
    *("Two zebras and a giraffe in tall grass.", "A laptop, a mouse and a keyboard on a desk."),
    *("A train at a station under a cloudy sky.", "Children play with a frisbee in the park."),
    *("A cow behind a fence on a hill.", "A boat on a lake with mountains behind it."),
    *("A kitchen with a stove and a sink.", "An aeroplane above the clouds."),
    *("A bus and a truck on a busy road.", "Birds on a roof beside a chimney."),
    *("A horse pulls a carriage on a street.", "A bench below a tree."),
    *("Teddy bears on a bed.", "A clock on a tower with windows."),
]


def outcome(task: Task) -> Outcome:
    """A row for each animal; its numbers are those of the seed."""
    words = [word for word in ("dog", "cat", "bird") if word in task.caption]
    noise = torch.Generator().manual_seed(task.seed)
    keys = [COLOURS.word_key(word) for word in words]
    return Outcome(
        task,
        tuple(words),
        torch.stack(keys).half() if words else torch.zeros(0, 0).half(),
        torch.randn(len(words), 3, generator=noise).half(),
        () if words else (("", "no word"),),
        "tests",
        np.full((4, 4, 3), task.index, np.uint8),
    )


def engine(stop_after: int = 100, backwards: bool = False) -> Engine:
    def run(tasks: Sequence[Task]) -> Iterator[Packed]:
        for count, task in enumerate(reversed(tasks) if backwards else tasks):
            if count == stop_after:
                raise RuntimeError("stopped")
            made = outcome(task)
            yield made.pack(), made.png()

    return run


def job(out: Path, identity: str = "one", shard: tuple[int, int] = (1, 1)) -> Job:
    tasks = make_tasks(CAPTIONS, seed=0, shard=shard)
    return Job(out, tasks, {"identity": identity}, COLOURS.kind)


def built(out: Path, how: Engine, **options) -> Build:
    made = job(out, **options)
    assert made.begin() is None
    list(made.work(how))
    return made.finish()


def content(bank: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bank.iterdir()}


def test_a_bank_has_the_rows_of_all_captions_in_their_order(tmp_path: Path) -> None:
    build = built(tmp_path / "bank", engine(backwards=True))
    assert build == Build(6, 6, 3, {"no word": 1})
    bank = PrototypeBank.open(tmp_path / "bank")
    assert bank.words == ["dog", "dog", "cat", "bird", "dog", "cat"]
    assert [record.caption for record in bank.records()][1:3] == ["a cat and a dog"] * 2
    assert verify(tmp_path / "bank") == []
    assert not (tmp_path / "bank.parts").exists()


def test_a_stopped_job_goes_on_and_its_bank_is_the_same(tmp_path: Path) -> None:
    built(tmp_path / "whole", engine())
    with pytest.raises(RuntimeError, match="stopped"):
        built(tmp_path / "again", engine(stop_after=2))
    again = job(tmp_path / "again")
    assert again.begin() is None
    assert again.done == 2
    with pytest.raises(ValueError, match="caption 3 is not done"):
        again.finish()
    assert [task.index for task in again.work(engine())] == [2, 3, 4, 5]
    again.finish()
    assert content(tmp_path / "again") == content(tmp_path / "whole")


def test_a_damaged_part_is_made_again(tmp_path: Path) -> None:
    made = job(tmp_path / "bank")
    made.begin()
    list(made.work(engine()))
    parts = sorted((tmp_path / "bank.parts" / "000000").iterdir())
    parts[1].write_bytes(parts[1].read_bytes()[:-3])
    parts[4].write_bytes(parts[3].read_bytes())  # of another caption
    assert [task.index for task in made.work(engine())] == [1, 4]


def test_another_job_does_not_go_on_in_its_place(tmp_path: Path) -> None:
    first = job(tmp_path / "bank")
    first.begin()
    with pytest.raises(ValueError, match="belongs to another job: identity differ"):
        job(tmp_path / "bank", "two").begin()
    with pytest.raises(ValueError, match="another job: captions differ"):
        job(tmp_path / "bank", shard=(1, 2)).begin()
    list(first.work(engine()))
    build = first.finish()
    assert job(tmp_path / "bank").begin() == build  # done already
    with pytest.raises(ValueError, match="another job"):
        job(tmp_path / "bank", "two").begin()
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="was not made by this job"):
        job(tmp_path / "mine").begin()
    assert list((tmp_path / "mine").iterdir()) == []


def test_shards_merged_in_order_are_the_bank_of_the_whole(tmp_path: Path) -> None:
    built(tmp_path / "whole", engine())
    shards = [tmp_path / f"bank-{number}" for number in (1, 2, 3)]
    for number, shard in enumerate(shards):
        built(shard, engine(), shard=(number + 1, 3))
    merge(shards, tmp_path / "merged")
    whole = content(tmp_path / "whole")
    whole.pop("build.json")
    assert content(tmp_path / "merged") == whole


def test_images_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    made = job(tmp_path / "bank")
    made.begin()
    list(made.work(engine(), tmp_path / "images"))
    assert len(list((tmp_path / "images").glob("00000000?.png"))) == 6


def test_a_bank_of_nothing_is_told(tmp_path: Path) -> None:
    made = Job(tmp_path / "b", make_tasks(["nothing"], seed=0), {}, COLOURS.kind)
    made.begin()
    list(made.work(engine()))
    with pytest.raises(ValueError, match=r"none of 1 captions gave a prototype: .*'no word': 1"):
        made.finish()


def start(diffusion: Path, out: Path, captions: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.methods.freeda.offline.build_worker"]
    return subprocess.Popen(
        [*command, str(diffusion), str(out), str(captions)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def kill_and_resume(diffusion: Path, folder: Path, sentences: Sequence[str], kills: int) -> None:
    """A bank whose process was killed while it worked is that of one that was not."""
    captions = folder / "captions.txt"
    captions.write_text("\n".join(sentences))
    for _ in range(kills):
        worker = start(diffusion, folder / "killed", captions)
        for _ in range(len(sentences) // (2 * kills)):
            assert worker.stdout.readline().startswith("done")
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
        worker.stdout.close()
        assert not (folder / "killed").exists()
        assert (folder / "killed.parts" / "job.json").exists()

    collector = build_worker.collector(diffusion)
    made = []
    for name in ("killed", "whole"):
        tasks = make_tasks(sentences, seed=3)
        resumed = Job(folder / name, tasks, collector.identity(), collector.encoder.kind)
        resumed.begin()
        made.append(len(list(resumed.work(local_engine(collector)))))
        resumed.finish()
    assert made[0] < made[1] == len(sentences)
    assert content(folder / "killed") == content(folder / "whole")
    described = json.loads((folder / "whole" / "build.json").read_text())
    assert described["build"]["rows"] == len(PrototypeBank.open(folder / "whole")) > 0


def test_killed_in_the_middle_and_resumed(tiny_diffusion: Path, tmp_path: Path) -> None:
    kill_and_resume(tiny_diffusion, tmp_path, SENTENCES[:4], kills=1)


@pytest.mark.slow
def test_twenty_captions_killed_twice_and_resumed(tiny_diffusion: Path, tmp_path: Path) -> None:
    kill_and_resume(tiny_diffusion, tmp_path, SENTENCES, kills=2)
