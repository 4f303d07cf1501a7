"""From a text to prototypes: the nearest keys of a bank, and what becomes of their prototypes.

text feature ─ search (inner product) ─ the k nearest rows ─ their prototypes ─ mean, or each

:class:`ExactIndex` reads a bank's keys block by block. :class:`FaissIndex` is any index of FAISS,
for banks beyond a million keys or the file that the authors made.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexiseg._extras import need
from lexiseg.methods.freeda.bank import BankError, PrototypeBank

logger = logging.getLogger(__name__)

NO_ROW = -1  # stands in for a row where an index found fewer than were asked for
PUBLISHED_EF_SEARCH = 50_000
EQUAL = 1e-6  # similarities of one key differ by less
FEWEST_A_GROUP = 39  # keys from which FAISS places a group without a warning
_ROWS_AT_ONCE = 16384
_ADDED_AT_ONCE = 65536


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
        _check_search(queries, self.keys.shape[1], k)
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
        inner = faiss.downcast_index(faiss.extract_index_ivf(index) if _is_ivf(index) else index)
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
        _check_search(queries, self.index.d, k)
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


class NumpyPrototypes:
    """The authors' folder of prototypes: a ``.npy`` a row, in the order of their sorted names.

    Args:
        names: of the files, sorted here as the index counts them.
        folder: where they lie; each is read when it is found.
    """

    def __init__(self, folder: str | Path, names: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        found = [path.name for path in self.folder.glob("*.npy")] if names is None else names
        self.names = sorted(found)
        unsafe = [name for name in self.names if Path(name).name != name]
        if unsafe or not self.names:
            raise BankError(
                f"{len(self.names)} names of prototypes in {str(folder)!r}, of which {unsafe[:3]} "
                "leave it; give names of .npy files inside"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: Int64[Tensor, " k"]) -> Float[Tensor, "k Dp"]:
        """The prototypes of some rows."""
        names = [self.names[row] for row in rows.tolist()]
        try:
            return torch.from_numpy(np.stack([_row(self.folder / name) for name in names])).float()
        except Exception as error:  # numpy lets through whatever a damaged file brings about
            raise BankError(f"a prototype in {str(self.folder)!r} is damaged: {error}") from error


def _row(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.asarray(np.load(file, allow_pickle=False)).reshape(-1)


class Retrieval:
    """A search and what it leads to: prototypes of texts.

    Args:
        index: over the keys.
        prototypes: a table of them, or anything that gives the rows asked for.
    """

    def __init__(self, index: Index, prototypes: Tensor | NumpyPrototypes) -> None:
        self.index = index
        self.prototypes = prototypes

    @classmethod
    def of(cls, bank: "PrototypeBank | Retrieval") -> "Retrieval":
        """Exact search in a bank."""
        return bank if isinstance(bank, Retrieval) else cls(ExactIndex(bank.keys), bank.prototypes)

    def __call__(
        self,
        queries: Float[Tensor, "T D"],
        *,
        k: int = 350,
        least_similarity: float | None = None,
        each: bool = False,
    ) -> Float[Tensor, "T P Dp"]:
        """The prototypes of each text: the mean of what was found, or each of it.

        Args:
            queries: features of texts, of length one.
            k: rows that are looked for; fewer count where the bank has fewer.
            least_similarity: rows below it are left out, but for the best one and its equals.
            each: keep every prototype, as many for each text as the one with the fewest has.

        Raises:
            ValueError: a text finds no prototype of finite numbers.
        """
        similarities, rows = self.index.search(queries, k)
        found = [
            self._of_text(similarities[text], rows[text], least_similarity)
            for text in range(len(queries))
        ]
        empty = [text for text, prototypes in enumerate(found) if not len(prototypes)]
        if empty:
            raise ValueError(
                f"texts {empty[:5]} find no prototype of finite numbers; the bank is empty or "
                "damaged: lexiseg prototypes verify says more"
            )
        if each:
            fewest = min(map(len, found))
            return torch.stack([prototypes[:fewest] for prototypes in found]).to(queries)
        means = torch.stack([prototypes.mean(dim=0, keepdim=True) for prototypes in found])
        return means.to(queries)  # published: of the prototypes as they are, not of directions

    def _of_text(
        self,
        similarities: Float[Tensor, " k"],
        rows: Int64[Tensor, " k"],
        least_similarity: float | None,
    ) -> Float[Tensor, "P Dp"]:
        held = rows != NO_ROW
        if least_similarity is not None:
            # The best one counts whatever its similarity (published), and so does its equal.
            held &= similarities >= min(least_similarity, float(similarities[0]) - EQUAL)
        count = int(held.long().cumprod(dim=0).sum())  # up to the first that fails
        chosen = rows[:count]
        if isinstance(self.prototypes, Tensor):
            chosen = chosen.to(self.prototypes.device)
        prototypes = self.prototypes[chosen].float()
        return prototypes[prototypes.isfinite().all(dim=1)]


def _check_search(queries: Float[Tensor, "T D"], width: int, k: int) -> None:
    if queries.shape[1] != width:
        raise ValueError(
            f"texts have {queries.shape[1]} channels, but the bank's keys {width}; the bank was "
            "made with another text encoder"
        )
    if k < 1:
        raise ValueError(f"k {k} came; at least 1 row must be looked for")


def _faiss() -> Any:
    return need("faiss", extra="freeda", purpose="FreeDA's retrieval")


def _is_ivf(index: Any) -> bool:
    return "IVF" in type(index).__name__


def _numbers(rows: Float[Tensor, "K D"]) -> Float[np.ndarray, "K D"]:
    return np.ascontiguousarray(rows.float().numpy())
