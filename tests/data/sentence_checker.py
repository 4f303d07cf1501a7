"""An own reading of the generated sentences, without margins and by other means than the library.

Regions come from scikit-image, places from the middles of boxes, colours from mean hues, nearness
from a search tree; the library uses scipy's labels, centres of mass, shares of pixels and distance
transforms.
"""

import colorsys
import re

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import label as connected

SPECK = 0.0005
HUES = {  # in degrees, wide
    "red": (335, 25),
    "orange": (8, 45),
    "brown": (5, 45),
    "yellow": (40, 75),
    "green": (65, 180),
    "blue": (180, 260),
    "purple": (245, 320),
    "pink": (290, 360),
}
COLOURS = (*HUES, "black", "white", "grey")


def true_of(sentence, image, label_map, class_names):
    """The masks of all regions that a sentence may mean."""
    names = sorted(class_names, key=len, reverse=True)
    plain = sentence.removeprefix("the ")
    anchor = None
    if " next to the " in plain:
        plain, anchor = plain.split(" next to the ")
    form = "(?P<before>.*?) ?{}(?P<behind>| (on|at|in|from) the .*)"  # "the orange donut"
    found = ((each, re.fullmatch(form.format(re.escape(each)), plain)) for each in names)
    name, match = next((each, match) for each, match in found if match)
    words = f"{match['before']}{match['behind']}".strip()
    regions = parts(label_map == class_names.index(name))
    if anchor is not None:
        assert not words
        (fixed,) = parts(label_map == class_names.index(anchor))
        tree = cKDTree(np.argwhere(fixed))
        distances = [tree.query(np.argwhere(each))[0].min() for each in regions]
        return [r for r, d in zip(regions, distances, strict=True) if d <= min(distances)]
    if not words:
        return regions
    if words in COLOURS:
        return [each for each in regions if looks(image[each], words)]
    return pick(words, regions)


def pick(words, regions):
    """The region of a place, an order or a size."""
    x, y = zip(*(middle(each) for each in regions), strict=True)
    area = [int(each.sum()) for each in regions]
    if ordinal := re.fullmatch(r"(second|third|fourth) from the (left|right)", words):
        place = ["second", "third", "fourth"].index(ordinal[1]) + 1
        order = np.argsort(x if ordinal[2] == "left" else -np.array(x))
        return [regions[order[place]]]
    if words == "in the middle":
        assert len(regions) == 3
        return [regions[np.argsort(x)[1]]]
    keys = {
        "left": x,
        "right": -np.array(x),
        "top": y,
        "upper": y,
        "bottom": -np.array(y),
        "low": -np.array(y),
        "large": -np.array(area),
        "larg": -np.array(area),
        "big": -np.array(area),
        "small": area,
    }
    word = next(w for w in keys if w in words)
    comparative = words in ("larger", "bigger", "smaller", "left", "right", "upper", "lower")
    assert not comparative or len(regions) == 2
    least = min(keys[word])
    return [r for r, key in zip(regions, keys[word], strict=True) if key == least]


def parts(mask):
    """Connected parts, neighbours over corners included, without specks."""
    numbered = connected(mask, connectivity=2)
    every = [numbered == n for n in range(1, numbered.max() + 1)]
    return [each for each in every if each.mean() > SPECK]


def middle(mask):
    """Of the box."""
    rows, columns = np.nonzero(mask)
    return (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2


def looks(pixels, word):
    """Whether about half of some pixels have a colour, which is meant widely."""
    hits = 0
    sample = pixels[:: max(1, len(pixels) // 300)]
    for red, green, blue in sample / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        if word == "black":
            hits += value < 0.28
        elif word == "white":
            hits += value > 0.7 and saturation < 0.2
        elif word == "grey":
            hits += saturation < 0.17 and 0.25 < value < 0.8
        else:
            low, high = HUES[word]
            angle = hue * 360
            inside = low <= angle <= high if low < high else angle >= low or angle <= high
            hits += inside and saturation > 0.15 and value > 0.15
    return hits > 0.45 * len(sample)
