import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.layers.linear import BLOCK, LEAST_CHANNELS, LEAST_ROWS, Linear, Pointwise, linear

WIDE = 2 * LEAST_CHANNELS


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(LEAST_ROWS,), (3, LEAST_ROWS), (2, 3, 5, 7), (LEAST_ROWS - 1,)])
@pytest.mark.parametrize("biased", [True, False])
def test_it_is_a_linear_layer(shape: tuple[int, ...], biased: bool) -> None:
    x, weight = numbers(*shape, WIDE), numbers(LEAST_CHANNELS, WIDE)
    bias = numbers(LEAST_CHANNELS) if biased else None
    with torch.inference_mode():
        found = linear(x, weight, bias)
    torch.testing.assert_close(found, F.linear(x, weight, bias), atol=2e-5, rtol=1e-5)
    assert found.is_contiguous()  # attention and views need it so


def test_long_sums_lose_no_more_than_those_of_pytorch() -> None:
    x, weight = numbers(LEAST_ROWS, 8 * BLOCK), numbers(LEAST_CHANNELS, 8 * BLOCK)
    exact = x.double() @ weight.double().T
    with torch.inference_mode():
        found, plain = (make(x, weight).double() - exact for make in (linear, F.linear))
    assert found.square().mean() < 1.5 * plain.square().mean()


def test_parts_of_weights_and_rows_that_lie_apart() -> None:
    x, weight = numbers(WIDE, LEAST_ROWS).T, numbers(WIDE, 3 * WIDE)
    part = weight[:, WIDE : 2 * WIDE]
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, part), x @ part.T, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_stay_as_they_are(dtype: torch.dtype) -> None:
    x, weight = numbers(LEAST_ROWS, WIDE).to(dtype), numbers(WIDE, WIDE).to(dtype)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight), atol=0, rtol=0)


def test_gradients() -> None:
    layer, x = Linear(WIDE, WIDE), numbers(LEAST_ROWS, WIDE)
    layer(x).square().sum().backward()
    assert layer.weight.grad is not None
    expected = 2 * layer(x).T @ x
    torch.testing.assert_close(layer.weight.grad, expected, atol=1e-3, rtol=1e-4)


def test_an_exported_graph_keeps_its_products() -> None:
    layers = nn.Sequential(Linear(WIDE, WIDE), nn.ReLU(), Linear(WIDE, WIDE)).eval()
    with torch.no_grad():
        graph = torch.export.export(layers, (numbers(LEAST_ROWS, WIDE),)).graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert sum("linear" in name for name in called) == 2
    assert not any("conv" in name for name in called)


def test_a_pointwise_convolution_is_a_convolution() -> None:
    layer, x = Pointwise(6, 5), numbers(2, 6, 4, 3)
    plain = nn.Conv2d(6, 5, 1)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), plain(x))
    assert Pointwise(6, 5, bias=False).bias is None
