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


def test_results_take_the_place_of_what_is_not_needed_any_more() -> None:
    x = torch.arange(5.0)[None]
    expected = 2 * x
    with torch.no_grad():
        kept = in_chunks(lambda part: 2 * part, 2, x)
        assert kept.data_ptr() != x.data_ptr()
        over = in_chunks(lambda part: 2 * part, 2, x, reuse=True)
    assert over.data_ptr() == x.data_ptr()
    torch.testing.assert_close(over, expected)
    with_gradients = torch.ones(1, 3, requires_grad=True)
    in_chunks(lambda part: 2 * part, 2, with_gradients, reuse=True).sum().backward()
    assert with_gradients.tolist() == [[1, 1, 1]]
    assert with_gradients.grad is not None
