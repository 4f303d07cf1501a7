"""Whether a model hears "left" and "right", "larger" and "smaller": a row a word.

python benchmarks/swap_pairs.py ../shared/data [cris_lite]

The sentences are made from the val photographs, see docs/data.md. A pair is told apart where both
masks fit their own object better than the other one's; the mask moves where both overlap by less
than half.
"""

import sys

from lexiseg.data.referring import read_generated
from lexiseg.evaluation.swaps import score_swaps
from lexiseg.segmenter import Segmenter


def main(root: str, model: str = "cris_lite") -> None:
    """Print the table."""
    segmenter = Segmenter.from_pretrained(model)
    scores = score_swaps(segmenter, read_generated(root, "val"))
    print("| word | pairs | the mask moves | told apart |")
    print("| --- | --- | --- | --- |")
    for word, each in scores.items():
        print(f"| {word} | {each.pairs} | {each.moved:.1%} | {each.told_apart:.1%} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
