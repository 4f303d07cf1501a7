from dataclasses import replace

import pytest
import torch

from lexiseg.training.run import Batch, OptimConfig, TrainConfig

CONFIG = TrainConfig(steps=10)


@pytest.mark.parametrize("field", ["steps", "batch_size", "accumulate", "keep"])
def test_counts_below_one_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} 0 came; it must be at least 1"):
        replace(CONFIG, **{field: 0})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seed", -1, "seed -1 came"),
        ("seed", 2**63, r"seed 9223372036854775808 came; it must be less than 2\*\*63"),
        ("workers", -1, "workers -1 came"),
        ("checkpoint_every", -1, "checkpoint_every -1 came"),
        ("average", 1.0, "average 1.0 came"),
        ("precision", "bf16", "precision 'bf16' came; choose one of float32, bfloat16, float16"),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **{field: value})


@pytest.mark.parametrize("value", [float("nan"), -1.0, float("inf")])
@pytest.mark.parametrize("field", ["lr", "clip_norm", "warmup"])
def test_a_rate_that_is_no_number_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"optim\.{field} {value}"):
        OptimConfig(**{field: value})


@pytest.mark.parametrize("value", [1.0, 100.0])
def test_a_warmup_that_is_no_share_is_refused(value: float) -> None:
    with pytest.raises(
        ValueError, match=rf"optim\.warmup {value} came; it is a share, less than 1"
    ):
        OptimConfig(warmup=value)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="optim.schedule 'poly' came; choose one of cosine"):
        OptimConfig(schedule="poly")


def test_a_batch_is_its_samples_and_the_chance_of_its_step() -> None:
    batch = Batch(["a", "b"], step=3, seed=5)
    assert list(batch) == ["a", "b"]
    assert (len(batch), batch[1]) == (2, "b")

    def drawn(step: int, seed: int) -> torch.Tensor:
        return torch.rand(4, generator=Batch([], step=step, seed=seed).generator())

    assert torch.equal(drawn(3, 5), torch.rand(4, generator=batch.generator()))
    assert not torch.equal(drawn(3, 5), drawn(4, 5))
    assert not torch.equal(drawn(3, 5), drawn(3, 6))
