"""The order in which a run passes over a data set."""

import numpy as np


class EpochOrder:
    """Every item once an epoch, in a new order each time, which seed and epoch alone decide.

    Args:
        count: of the items.
        seed: of the run.
        key: keeps this chance apart from that of the sample whose number is the epoch's.
    """

    def __init__(self, count: int, *, seed: int, key: int) -> None:
        self.count, self.seed, self.key = count, seed, key
        self._kept = (-1, np.empty(0, np.int64))

    def __call__(self, index: int) -> int:
        """The item that sample ``index`` of the run shows."""
        epoch, place = divmod(index, self.count)
        if self._kept[0] != epoch:
            generator = np.random.default_rng((self.seed, epoch, self.key))
            self._kept = (epoch, generator.permutation(self.count))
        return int(self._kept[1][place])
