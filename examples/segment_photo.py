"""Segment a photograph by words and keep the mask of one of them.

python examples/segment_photo.py PHOTO OUT
"""

import sys
from pathlib import Path

from PIL import Image

import lexiseg


def main(photo: str, out: str) -> None:
    """Write an overlay and the mask of the sky."""
    segmenter = lexiseg.Segmenter.from_pretrained("catseg_lite")
    result = segmenter(
        photo, {"sky": ["sky"], "plane": ["airplane", "propeller"], "plants": ["tree", "grass"]}
    )
    for row in result.table():
        print(f"{row['label']:10} {row['share']:6.1%}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    result.plot().save(folder / "overlay.png")
    Image.fromarray(result.mask("sky")).save(folder / "sky.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
