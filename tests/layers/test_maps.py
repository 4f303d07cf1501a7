import pytest
import torch

from lexiseg.layers.maps import each_chunk, in_chunks


def test_chunks_are_recomputed_only_where_there_are_several() -> None:
    runs = []

    def run(x: torch.Tensor, of_texts: torch.Tensor) -> torch.Tensor:
        runs.append(x.shape[1])
        return x * of_texts[:, None]

    weight = torch.randn(5, requires_grad=True)
    x = torch.randn(2, 5, 3)
    gradients = []
    for chunk, expected in [(None, [5]), (5, [5]), (2, [2, 2, 1, 1, 2, 2])]:
        runs.clear()
        result = in_chunks(run, chunk, x, weight, recompute=True)
        torch.testing.assert_close(result, x * weight[:, None])
        gradients += torch.autograd.grad(result.square().sum(), weight)
        assert runs == expected
    torch.testing.assert_close(gradients[0], gradients[2])
    runs.clear()
    with torch.no_grad():
        in_chunks(run, 2, x, weight, recompute=True)
    assert runs == [2, 2, 1]


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="class_chunk 0 came"):
        next(each_chunk(lambda x: x, 0, torch.randn(1, 2)))
