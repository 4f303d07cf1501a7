import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lexiseg.data.semantic import read_semantic_folder
from lexiseg.evaluation.evaluate import count_items, evaluate, prepare_evaluation
from lexiseg.evaluation.record import RecordedEvaluation
from lexiseg.segmenter import Segmenter
from tests.conftest import Painter

Start = Callable[..., RecordedEvaluation]


@pytest.fixture
def start(flag_folder: Path, painter: Painter, tmp_path: Path) -> Start:
    """Begins an evaluation of the flags, or goes on with it."""

    def begin(*, shard: tuple[int, int] = (0, 1), **choices: object) -> RecordedEvaluation:
        dataset = read_semantic_folder(flag_folder, "val")
        evaluation = prepare_evaluation(Segmenter(painter, device="cpu"), dataset, **choices)
        return RecordedEvaluation(evaluation, "painter", tmp_path / "out", shard=shard)

    return begin


def confusion(record: dict[str, object] | None) -> object:
    assert record is not None
    return record["confusion"]


def finished(run: RecordedEvaluation, workers: int = 0) -> dict[str, object] | None:
    run.run(workers=workers)
    return run.finish()


def test_the_record_says_all(start: Start, flag_folder: Path, painter: Painter) -> None:
    run = start()
    record = finished(run)
    assert record == json.loads(run.file.read_text())
    assert run.file.name == f"painter@default-{run.digest[:8]}.json"
    assert run.file.parent.name == "flags-val"
    assert [path.name for path in run.file.parent.iterdir()] == [run.file.name]
    dataset = read_semantic_folder(flag_folder, "val")
    scores = evaluate(Segmenter(painter, device="cpu"), dataset)
    assert record["mIoU"] == scores.mean_iou
    assert (record["items"], record["dataset"], record["split"]) == (7, "flags", "val")
    for key in ("weights_sha256", "prompts_sha256", "dataset_sha256"):
        assert len(record[key]) == 64
    for key in ("lexiseg", "torch", "python", "numpy", "pillow", "protocol", "templates", "names"):
        assert record[key]
    matrix = np.zeros((3, 4), int)
    for true, called, count in record["confusion"]:
        matrix[true, called] = count
    assert matrix.sum() == sum(30 * (14 + 4 * index) for index in range(7))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers_gives_one_matrix(start: Start, workers: int) -> None:
    expected = confusion(finished(start()))
    assert confusion(finished(start(), workers=workers)) == expected


def test_a_stopped_run_goes_on_to_the_same_matrix(start: Start) -> None:
    expected = confusion(finished(start()))
    for place in (1, 4):
        run = start()
        with run.journal as journal:
            for index, item in count_items(run.evaluation, run.todo[:place]):
                journal.write(index, item)
    left = start()
    assert left.todo == [5, 6]  # one was counted by the first, four of the others by the second
    assert confusion(finished(left)) == expected
    assert len(start().todo) == 7  # a finished evaluation is not gone on with, but made again


@pytest.mark.parametrize("count", [2, 3, 9])
def test_parts_in_any_order_are_merged_by_the_last(start: Start, count: int) -> None:
    expected = confusion(finished(start()))
    order = np.random.default_rng(count).permutation(count).tolist()
    records = [finished(start(shard=(part, count))) for part in order]
    done = [record for record in records if record is not None]
    assert len(done) >= 1
    assert records[0] is None
    assert all(confusion(record) == expected for record in done)


def test_a_part_that_was_left_out_by_one_run_is_counted_by_another(start: Start) -> None:
    expected = confusion(finished(start()))
    assert finished(start(shard=(1, 3))) is None
    assert confusion(finished(start())) == expected


def test_what_another_process_has_merged_is_read(start: Start) -> None:
    first, second = start(shard=(0, 2)), start(shard=(1, 2))
    first.run()
    second.run()
    record = second.finish()
    assert record is not None
    assert first.finish() == record


@pytest.mark.parametrize("change", ["weights", "words", "boundary", "data"])
def test_nothing_is_mixed_with_another_evaluation(
    start: Start, painter: Painter, flag_folder: Path, change: str
) -> None:
    assert finished(start(shard=(0, 2))) is None
    choices: dict[str, object] = {}
    if change == "weights":
        with torch.no_grad():
            painter.gain.mul_(2)
    elif change == "words":
        choices["labels"] = ["red", "lime", "blue"]
    elif change == "boundary":
        choices["boundary"] = True
    else:
        mask = flag_folder / "val" / "masks" / "flag0.png"
        content = bytearray(mask.read_bytes())
        content[-1] ^= 1  # the same size
        mask.write_bytes(content)
    assert len(start(**choices).todo) == 7


def test_boundary_iou_is_lower_where_only_outlines_are_wrong(start: Start) -> None:
    record = finished(start(boundary=True))
    assert record is not None
    assert 0 < record["bIoU"] < record["mIoU"]


def test_a_damaged_photograph_stops_the_run_and_loses_nothing(
    start: Start, flag_folder: Path
) -> None:
    expected = confusion(finished(start()))
    photograph = flag_folder / "val" / "images" / "flag5.png"
    content, times = photograph.read_bytes(), photograph.stat()
    run = start()
    photograph.write_bytes(content[:-10] + b"0123456789")
    with pytest.raises(ValueError, match=r"flag5\.png"):
        run.run(workers=2)
    assert start().digest != run.digest
    photograph.write_bytes(content)
    os.utime(photograph, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = start()
    assert again.todo == [5, 6]
    assert confusion(finished(again)) == expected
