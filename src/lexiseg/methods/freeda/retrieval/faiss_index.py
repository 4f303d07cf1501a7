"""Indexes of FAISS, for banks beyond a million keys or the file that the authors made."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexiseg._extras import need
from lexiseg.methods.freeda.bank import BankError
from lexiseg.methods.freeda.retrieval.exact import check_search

PUBLISHED_EF_SEARCH = 50_000
FEWEST_A_GROUP = 39  # keys from which FAISS places a group without a warning
_ADDED_AT_ONCE = 65536


class FaissIndex:
    """An index of FAISS (extra ``freeda``), whose metric is the inner product.

    Args:
        index: what ``faiss.read_index`` gave, or :func:`build_faiss`.
        ef_search: how far an HNSW index looks; the authors' number by default.
    """

    def __init__(self, index: Any, *, ef_search: int = PUBLISHED_EF_SEARCH) -> None:
        faiss = _faiss()
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError("the FAISS index does not use the inner product; build it again")
        self.index = index
        inner = faiss.downcast_index(index)
        if hasattr(inner, "hnsw"):
            inner.hnsw.efSearch = ef_search

    @classmethod
    def open(cls, path: str | Path, *, ef_search: int = PUBLISHED_EF_SEARCH) -> "FaissIndex":
        """An index file, its vectors left on disk where the kind allows it.

        FAISS reads the file with compiled code: take such files only from those you trust.

        Raises:
            ImportError: faiss is not installed.
            BankError: there is no such file, or it is damaged.
        """
        faiss = _faiss()
        if not Path(path).is_file():
            raise BankError(f"no FAISS index at {str(path)!r}; check the path")
        try:
            return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP), ef_search=ef_search)
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rsplit(": ", 1)[-1]
            raise BankError(f"{str(path)!r} is no FAISS index: {reason}") from error

    def save(self, path: str | Path) -> None:
        """Write the index to a file."""
        _faiss().write_index(self.index, str(path))

    def __len__(self) -> int:
        return int(self.index.ntotal)

    def search(
        self, queries: Float[Tensor, "T D"], k: int
    ) -> tuple[Float[Tensor, "T k"], Int64[Tensor, "T k"]]:
        """As :class:`Index` says."""
        check_search(queries, self.index.d, k)
        asked = np.ascontiguousarray(queries.detach().float().cpu().numpy())
        similarities, rows = self.index.search(asked, k)
        return torch.from_numpy(similarities), torch.from_numpy(rows)


def build_faiss(
    keys: Float[Tensor, "K D"],
    kind: str = "flat",
    *,
    neighbours: int = 32,
    lists: int | None = None,
    probes: int = 16,
) -> FaissIndex:
    """An index over a bank's keys, held in half precision.

    Args:
        keys: a row each.
        kind: "flat" compares all; "hnsw" walks a graph of ``neighbours`` a key; "ivf" compares the
            ``probes`` nearest of ``lists`` groups (by default four times the square root of K).
        neighbours: of a key in the graph.
        lists: of an inverted file.
        probes: of an inverted file.

    Raises:
        ImportError: faiss is not installed.
        ValueError: there is no such kind.
    """
    faiss = _faiss()
    width, metric = keys.shape[1], faiss.METRIC_INNER_PRODUCT
    half = faiss.ScalarQuantizer.QT_fp16
    if kind == "flat":
        index = faiss.IndexScalarQuantizer(width, half, metric)
    elif kind == "hnsw":
        index = faiss.IndexHNSWSQ(width, half, neighbours, metric)
    elif kind == "ivf":
        groups = min(lists or int(4 * len(keys) ** 0.5), max(1, len(keys) // FEWEST_A_GROUP))
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(width), width, groups, half, metric, False
        )
        index.nprobe = min(probes, groups)
        step = max(1, len(keys) // (64 * groups))
        index.train(_numbers(keys[::step]))
    else:
        raise ValueError(f"kind {kind!r}; choose 'flat', 'hnsw' or 'ivf'")
    if kind != "ivf":
        index.train(_numbers(keys[:1]))
    for block in keys.split(_ADDED_AT_ONCE):
        index.add(_numbers(block))
    return FaissIndex(index)


def _faiss() -> Any:
    return need("faiss", extra="freeda", purpose="FreeDA's retrieval")


def _numbers(rows: Float[Tensor, "K D"]) -> Float[np.ndarray, "K D"]:
    return np.ascontiguousarray(rows.float().numpy())
