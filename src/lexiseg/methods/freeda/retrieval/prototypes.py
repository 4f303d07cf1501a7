"""From a text to prototypes: what becomes of the rows that were found."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lexiseg.methods.freeda.bank import BankError, PrototypeBank
from lexiseg.methods.freeda.retrieval.exact import NO_ROW, ExactIndex, Index

EQUAL = 1e-6  # similarities of one key differ by less


class Retrieval:
    """A search and what it leads to: prototypes of texts.

    Args:
        index: over the keys.
        prototypes: a table of them, or anything that gives the rows asked for.
    """

    def __init__(self, index: Index, prototypes: "Tensor | NumpyPrototypes") -> None:
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
