from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lexiseg.methods.freeda.bank import BankError
from lexiseg.methods.freeda.retrieval import (
    ExactIndex,
    FaissIndex,
    NumpyPrototypes,
    Retrieval,
    build_faiss,
    exact,
)


def noise(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)))


def test_exact_search_is_a_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_ROWS_AT_ONCE", 7)
    keys, queries = noise(40, 5).half(), noise(3, 5, seed=1)
    similarities, rows = ExactIndex(keys).search(queries, 11)
    order = (queries @ keys.float().T).sort(dim=1, descending=True)
    assert torch.equal(rows, order.indices[:, :11])
    torch.testing.assert_close(similarities, order.values[:, :11])


def test_equal_keys_come_in_the_order_of_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_ROWS_AT_ONCE", 4)
    keys = torch.tensor([[0.0, 1.0]] + [[1.0, 0.0]] * 9)
    _, rows = ExactIndex(keys).search(torch.tensor([[1.0, 0.0]]), 9)
    assert rows[0].tolist() == list(range(1, 10))


def test_fewer_rows_than_are_asked_for() -> None:
    _, rows = ExactIndex(noise(3, 5)).search(noise(2, 5), 5)
    assert (rows[:, 3:] == -1).all()
    found = Retrieval(ExactIndex(noise(3, 5)), torch.arange(3.0)[:, None])
    assert found(noise(2, 5), k=5).flatten().tolist() == [1, 1]  # the mean of 0, 1, 2


# Similarities to the query are 1.0, 0.8, 0.6, 0.0.
KEYS = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0], [0.8, 0.6]])
QUERY = torch.tensor([[1.0, 0.0]])
PROTOTYPES = torch.tensor([[3.0], [1.0], [4.0], [2.0]])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"k": 1}, [1.0]),
        ({"k": 2}, [1.5]),
        ({"k": 9}, [2.5]),
        ({"k": 4, "least_similarity": 0.7}, [1.5]),
        ({"k": 4, "least_similarity": 2.0}, [1.0]),  # the best one stays
        ({"k": 3, "each": True}, [1.0, 2.0, 3.0]),
    ],
)
def test_what_becomes_of_what_was_found(choice: dict, expected: list[float]) -> None:
    found = Retrieval(ExactIndex(KEYS), PROTOTYPES)(QUERY, **choice)
    torch.testing.assert_close(found[0, :, 0], torch.tensor(expected))


def test_rows_of_one_word_count_together() -> None:
    """What equals the best one is as good as it, whatever the limit."""
    same = torch.cat([KEYS, KEYS[1:2]])
    found = Retrieval(ExactIndex(same), torch.tensor([[3.0], [1.0], [4.0], [2.0], [7.0]]))
    assert found(QUERY, k=5, least_similarity=2.0).item() == 4


def test_prototypes_that_are_not_finite_are_left_out() -> None:
    broken = PROTOTYPES.clone()
    broken[3] = torch.nan
    assert Retrieval(ExactIndex(KEYS), broken)(QUERY, k=2).item() == 1
    two = torch.cat([QUERY, torch.tensor([[0.0, 1.0]])])
    each = Retrieval(ExactIndex(KEYS), broken)(two, k=2, each=True)
    assert each[:, :, 0].tolist() == [[1.0], [4.0]]  # cut to the text with the fewest
    broken[1] = torch.inf
    with pytest.raises(ValueError, match=r"texts \[0\] find no prototype"):
        Retrieval(ExactIndex(KEYS), broken)(QUERY, k=2)
    with pytest.raises(ValueError, match="texts have 3 channels, but the bank's keys 2"):
        Retrieval(ExactIndex(KEYS), broken)(torch.ones(1, 3))
    with pytest.raises(ValueError, match="k 0 came"):
        Retrieval(ExactIndex(KEYS), broken)(QUERY, k=0)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_faiss_finds_what_exact_search_finds(kind: str, tmp_path: Path) -> None:
    keys, queries = noise(800, 16).half(), noise(4, 16, seed=1)
    index = build_faiss(keys, kind, lists=4, probes=4)
    expected, rows = ExactIndex(keys).search(queries, 5)
    similarities, found = index.search(queries, 5)
    assert torch.equal(found, rows)
    torch.testing.assert_close(similarities, expected, atol=1e-3, rtol=0)
    index.save(tmp_path / "index")
    again = FaissIndex.open(tmp_path / "index")
    assert len(again) == 800
    assert torch.equal(again.search(queries, 5)[1], rows)


def test_faiss_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="no FAISS index at"):
        FaissIndex.open(tmp_path / "index")
    (tmp_path / "index").write_bytes(b"hello, world")
    with pytest.raises(BankError, match="is no FAISS index"):
        FaissIndex.open(tmp_path / "index")
    with pytest.raises(ValueError, match="choose 'flat', 'hnsw' or 'ivf'"):
        build_faiss(noise(3, 4), "tree")


def test_the_authors_folder_of_prototypes(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "a", "c")):
        np.save(tmp_path / f"{name}.npy", np.full((1, 3), number, np.float32))
    prototypes = NumpyPrototypes(tmp_path)
    assert prototypes.names == ["a.npy", "b.npy", "c.npy"]  # row i is the i-th sorted name
    assert prototypes[torch.tensor([2, 0])].tolist() == [[2.0] * 3, [1.0] * 3]
    index = ExactIndex(torch.eye(3))
    found = Retrieval(index, prototypes)(torch.eye(3), k=1)
    assert found[:, 0, 0].tolist() == [1.0, 0.0, 2.0]
    (tmp_path / "a.npy").write_bytes(b"damaged")
    with pytest.raises(BankError, match="damaged"):
        prototypes[torch.tensor([0])]
    with pytest.raises(BankError, match="leave it"):
        NumpyPrototypes(tmp_path, ["../a.npy"])
