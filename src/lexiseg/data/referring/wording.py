"""Sentences that are true of exactly one region of a photograph.

Of a class with one region its name alone is enough. Of one with several, position, size, order,
colour or a neighbour tell a region from the others, each only with a clear margin: what somebody
could see otherwise is not said.
"""

from collections.abc import Iterator, Sequence

from lexiseg.data.referring.regions import Region, gap

APART = 0.12  # least distance of two centres, as a part of the width or the height
STEP = 0.06  # likewise of neighbours in a row that is counted
LARGER = 1.7  # least ratio of two sizes
COLOURED = 0.5  # share of a region's pixels that have the colour by which it is called
NOT_COLOURED = 0.15  # most of it that another region of the class has
NEAR, FAR = 0.03, 0.15  # of a neighbour, and of all that are none; parts of the diagonal
MOST = 6  # regions of one class; in a crowd nobody counts

# Names of which one does not count pieces: said alone, and by colour.
_UNCOUNTED = (
    "sky grass water road street vegetation mountain facade skin hair body building fence "
    "boots flats glasses gloves heels jeans leggings loafers panties pants pumps sandals "
    "shoes shorts skis sneakers socks stockings sunglasses swimwear tights wedges scissors "
    "earrings broccoli "
    # clothes: an open coat shows in two regions
    "blazer blouse bodysuit cape cardigan coat dress hoodie jacket jumper romper scarf shirt skirt "
    "suit sweater sweatshirt t-shirt top vest"
)
UNCOUNTED = frozenset(_UNCOUNTED.split())
UNSAID = frozenset(
    (
        *("background", "accessories", "intimate"),
        *("non-building infrastructure", "traffic infrastructure"),
    )
)
_ORDINALS = ("second", "third", "fourth")
_COMPARISONS = (
    "left right leftmost rightmost top bottom upper lower topmost lowest middle next larger bigger "
    "smaller largest biggest smallest"
)
_COMPARING = frozenset(_COMPARISONS.split())
# Of each side: the axis, the direction, and words where there are two regions, and more.
_SIDES = (
    (0, -1, "{} on the left|left {}", "leftmost {}|{} on the far left"),
    (0, 1, "{} on the right|right {}", "rightmost {}|{} on the far right"),
    (1, -1, "{} at the top|upper {}", "topmost {}|{} at the very top"),
    (1, 1, "{} at the bottom|lower {}", "lowest {}|{} at the very bottom"),
)


def describe(regions: Sequence[Region]) -> list[tuple[str, ...]]:
    """Of each region, the sentences that are true of it and of no other; some have none."""
    return [tuple(_sentences(region, regions)) for region in regions]


def mirrored(sentence: str) -> str:
    """The sentence for the photograph with left and right exchanged."""
    swaps = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
    return " ".join(swaps.get(word, word) for word in sentence.split(" "))


def compares(sentence: str) -> bool:
    """Whether a sentence tells an object from others of its name by where or how large it is."""
    return not _COMPARING.isdisjoint(sentence.split(" "))


def _sentences(region: Region, regions: Sequence[Region]) -> Iterator[str]:
    """Every kind in turn."""
    if region.name in UNSAID:
        return
    others = [each for each in regions if each.name == region.name and each is not region]
    if not others:
        yield f"the {region.name}"
        yield region.name
        yield from _by_colour(region, others)
        return
    if region.name in UNCOUNTED or len(others) >= MOST:
        return
    yield from _by_side(region, others)
    yield from _by_order(region, others)
    yield from _by_size(region, others)
    yield from _by_colour(region, others)
    yield from _by_neighbour(region, others, regions)


def _by_side(region: Region, others: Sequence[Region]) -> Iterator[str]:
    for axis, direction, of_two, of_more in _SIDES:
        if all(beyond(region, other, axis, direction, APART) for other in others):
            for words in (of_two if len(others) == 1 else of_more).split("|"):
                yield f"the {words.format(region.name)}"


def _by_order(region: Region, others: Sequence[Region]) -> Iterator[str]:
    """Counted from the left and from the right, where all stand in a clear row."""
    row = sorted([region, *others], key=lambda each: each.centre[0])
    pairs = zip(row[:-1], row[1:], strict=True)
    if len(row) < 3 or not all(beyond(left, right, 0, -1, STEP) for left, right in pairs):
        return
    place = row.index(region)
    if len(row) == 3 and place == 1:
        yield f"the {region.name} in the middle"
    for side, count in (("left", place), ("right", len(row) - 1 - place)):
        if 1 <= count <= min(len(_ORDINALS), len(row) - 2):
            yield f"the {_ORDINALS[count - 1]} {region.name} from the {side}"


def _by_size(region: Region, others: Sequence[Region]) -> Iterator[str]:
    largest = all(region.share >= LARGER * other.share for other in others)
    smallest = all(region.share * LARGER <= other.share for other in others)
    if len(others) == 1:
        words = ("larger", "bigger") if largest else ("smaller",) if smallest else ()
    else:
        words = ("largest", "biggest") if largest else ("smallest",) if smallest else ()
    for word in words:
        yield f"the {word} {region.name}"


def _by_colour(region: Region, others: Sequence[Region]) -> Iterator[str]:
    for word, share in region.colours.items():
        if share >= COLOURED and all(other.colours[word] <= NOT_COLOURED for other in others):
            yield f"the {word} {region.name}"


def _by_neighbour(
    region: Region, others: Sequence[Region], regions: Sequence[Region]
) -> Iterator[str]:
    """What stands beside the only region of another class, the others of its own being far off."""
    for anchor in regions:
        alone = sum(each.name == anchor.name for each in regions) == 1
        if not alone or anchor.name in UNCOUNTED | UNSAID:
            continue
        if gap(anchor, region) <= NEAR and all(gap(anchor, other) >= FAR for other in others):
            yield f"the {region.name} next to the {anchor.name}"


def beyond(region: Region, other: Region, axis: int, direction: int, distance: float) -> bool:
    """Whether a region lies clearly on one side of another.

    The centres are ``distance`` apart, and neither lies within the other region's extent.

    Args:
        region: the one.
        other: the other.
        axis: 0 across, 1 downwards.
        direction: -1 for left or top, 1 for right or bottom.
        distance: as a part of the width or the height.
    """
    if direction > 0:
        region, other = other, region
    low, high = region.centre[axis], other.centre[axis]
    return high - low >= distance and region.box[axis + 2] <= high and other.box[axis] >= low
