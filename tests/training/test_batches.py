from collections import namedtuple
from dataclasses import dataclass, replace

import pytest
import torch

from lexiseg.training.batches import indices_of_parts, share_of_batch, to_device
from lexiseg.training.run import TrainConfig
from tests.training.jobs import Point

CONFIG = TrainConfig(steps=3, batch_size=12)


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (1, 3), (2, 3), (3, 4)])
def test_each_step_takes_its_samples_however_they_are_shared_out(
    processes: int, accumulate: int
) -> None:
    config = replace(CONFIG, accumulate=accumulate)
    parts = [
        indices_of_parts(config, start=1, process=process, processes=processes)
        for process in range(processes)
    ]
    for step in (1, 2):
        taken = [
            index
            for own in parts
            for part in own[(step - 1) * accumulate : step * accumulate]
            for index in part
        ]
        assert sorted(taken) == list(range(12 * step, 12 * step + 12))
    assert {len(part) for own in parts for part in own} == {share_of_batch(config, processes)}


def test_rows_of_a_part_are_in_the_order_of_the_processes() -> None:
    config = replace(CONFIG, steps=1, accumulate=2)
    own = [indices_of_parts(config, start=0, process=p, processes=2) for p in range(2)]
    assert own == [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size 12 came with 8 processes.*multiple of 8"):
        share_of_batch(CONFIG, 8)


@dataclass(frozen=True)
class Nested:
    """A sample of samples."""

    point: Point
    more: dict[str, list[torch.Tensor]]
    name: str


def test_every_tensor_of_a_sample_is_moved() -> None:
    point = Point(torch.zeros(2), torch.ones(1))
    pair = namedtuple("pair", "x y")(1, 2)  # noqa: PYI024
    moved, text = to_device(
        (Nested(point, {"a": [torch.zeros(3)]}, "n"), pair), torch.device("meta")
    )
    assert {moved.point.x.device.type, moved.more["a"][0].device.type} == {"meta"}
    assert (moved.name, text) == ("n", pair)
    assert point.x.device.type == "cpu"
