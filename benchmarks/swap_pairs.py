"""Whether a model hears "left" and "right", "larger" and "smaller": a row a word.

python benchmarks/swap_pairs.py ../shared/data [cris_lite]

The sentences are made from the val photographs, see docs/data.md. A pair is told apart where both
masks fit their own object better than the other one's.
"""

import sys

from lexiseg.data.referring import read_generated
from lexiseg.evaluation.swaps import score_swaps
from lexiseg.segmenter import Segmenter


def main(root: str, model: str = "cris_lite") -> None:
    """Print the table."""
    segmenter = Segmenter.from_pretrained(model)
    scores = score_swaps(segmenter, read_generated(root, "val"))
    print("| word | pairs | told apart |")
    print("| --- | --- | --- |")
    for word, (pairs, share) in scores.by_word.items():
        print(f"| {word} | {pairs} | {share:.1%} |")
    print(f"| all | {scores.pairs} | {scores.told_apart:.1%} |")
    print(f"\nmasks that overlap by less than half: {scores.moved:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
