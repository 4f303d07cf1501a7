"""Twelve photographs segmented by words, on one sheet.

python examples/contact_sheet.py PHOTOS SHEET.jpg [MODEL]

PHOTOS is a folder; the names below are the project's demo photographs, others are passed over.
"""

import sys
from pathlib import Path

import lexiseg
from lexiseg.plot import side_by_side

WORDS = {
    "airplane": "airplane, propeller, wheel, sky, grass, car",
    "astronaut": "face, hair, flag, rocket, space suit|orange jacket, helmet, wall",
    "barn": "barn, pond|water, tree, grass, sky, fence",
    "beach": "person, sand, sea|water, sky, tree",
    "boat": "boat, sea|water, sky, tree, sand",
    "cat": "cat, dog, wall, blanket, grass",
    "coffee": "cup, coffee, saucer|plate, spoon, wooden table|table",
    "dog": "dog, bowl, jeans, foot, floor, chair, wall",
    "lighthouse": "lighthouse, house, fence, grass, sky, tree",
    "motorcycles": "motorcycle, person, helmet, wheel, dirt|road, tree",
    "parrots": "parrot|bird, leaves|plant, sky, flower, cat",
    "truck": "truck, wheel, road, red wall|building, window, tree",
}


def main(photos: str, sheet: str, model: str = "catseg_lite") -> None:
    """Write the sheet."""
    segmenter = lexiseg.Segmenter.from_pretrained(model)
    files = [path for path in sorted(Path(photos).iterdir()) if path.stem in WORDS]
    pictures = [segmenter(path, WORDS[path.stem]).plot() for path in files]
    side_by_side(pictures, height=400, columns=3).save(sheet, quality=88)


if __name__ == "__main__":
    main(*sys.argv[1:])
