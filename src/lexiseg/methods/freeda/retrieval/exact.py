"""Something that finds the rows nearest to a text, and the exact one: every key is compared."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

NO_ROW = -1  # stands in for a row where an index found fewer than were asked for
_ROWS_AT_ONCE = 16384


@runtime_checkable
class Index(Protocol):
    """Something that finds the rows nearest to a text."""

    def search(
        self, queries: Float[Tensor, "T D"], k: int
    ) -> tuple[Float[Tensor, "T k"], Int64[Tensor, "T k"]]:
        """Inner products and rows, the best first; row -1 where there are no more."""
        ...


class ExactIndex:
    """Every key is compared, a block of them at a time.

    Args:
        keys: of any precision and lazily mapped, if need be; they are compared in float32.
    """

    def __init__(self, keys: Float[Tensor, "K D"]) -> None:
        self.keys = keys

    def search(
        self, queries: Float[Tensor, "T D"], k: int
    ) -> tuple[Float[Tensor, "T k"], Int64[Tensor, "T k"]]:
        """As :class:`Index` says; the lower row among equals comes first."""
        check_search(queries, self.keys.shape[1], k)
        queries = queries.detach().float().to(self.keys.device)
        best = queries.new_full((len(queries), k), -torch.inf)
        rows = torch.full_like(best, NO_ROW, dtype=torch.int64)
        for first in range(0, len(self.keys), _ROWS_AT_ONCE):
            found = queries @ self.keys[first : first + _ROWS_AT_ONCE].float().T
            numbers = torch.arange(first, first + found.shape[1], device=rows.device)
            values = torch.cat([best, found], dim=1)
            places = torch.cat([rows, numbers.expand(len(queries), -1)], dim=1)
            # A stable sort of the few best keeps equal keys in the order of their rows.
            kept = values.topk(k, dim=1).indices.sort(dim=1).values
            order = values.gather(1, kept).sort(dim=1, descending=True, stable=True)
            best = order.values
            rows = places.gather(1, kept.gather(1, order.indices))
        return best, rows


def check_search(queries: Float[Tensor, "T D"], width: int, k: int) -> None:
    """Raise a ValueError where texts do not fit the keys, or nothing is looked for."""
    if queries.shape[1] != width:
        raise ValueError(
            f"texts have {queries.shape[1]} channels, but the bank's keys {width}; the bank was "
            "made with another text encoder"
        )
    if k < 1:
        raise ValueError(f"k {k} came; at least 1 row must be looked for")
