"""The semantic benchmarks by name: read one from the folders it lies in, or say what is missing."""

import os
from pathlib import Path

from lexiseg.data.catalog.benchmarks import Benchmark
from lexiseg.data.catalog.layouts import IGNORED_ID, Layout, RenumberedMask, Renumbering
from lexiseg.data.catalog.published_benchmarks import ALIASES, BENCHMARKS
from lexiseg.data.semantic import MaskFile, SemanticDataset, Truth
from lexiseg.registry import unknown


def names() -> list[str]:
    """All names that a benchmark goes by: its own, then the aliases."""
    return [*BENCHMARKS, *ALIASES]


def find(name: str) -> Benchmark:
    """The benchmark of a name or alias, in capitals or not.

    Raises:
        ValueError: no such benchmark; the message gives the nearest one.
    """
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in BENCHMARKS:
        known = f"Known are {', '.join(BENCHMARKS)}"
        raise ValueError(unknown("benchmark", name, names(), known))
    return BENCHMARKS[key]


def read_benchmark(name: str, root: str | os.PathLike[str], split: str = "val") -> SemanticDataset:
    """The data set of a benchmark.

    Args:
        name: one of :func:`names`.
        root: the folder with the benchmarks of the authors' code, or the benchmark's own.
        split: "val" or "train".

    Returns:
        All pairs that are there; :func:`size_note` tells whether they are all there should be.

    Raises:
        ValueError: no such benchmark or split; none of its layouts is there; or a photograph or
            label map lacks its other half.
    """
    benchmark = find(name)
    _check_split(benchmark, split)
    found = _located(benchmark, Path(root), split)
    if found is None:
        sought = " or ".join(
            f"{each.images} with {each.masks} (*{each.mask_suffix})" for each in benchmark.layouts
        ).replace("{}", "SPLIT")
        raise ValueError(
            f"{root} has no {benchmark.name} {split}; looked in {_shown(benchmark.places)} for "
            f"{sought}; `lexiseg data check {benchmark.name} {root}` says what is missing"
        )
    layout, place = found
    pairs, faults = layout.pairs(place, split)
    if faults:
        raise ValueError(faults[0])
    if not pairs:
        raise ValueError(f"{layout.paths(place, split)['listing']} names no photograph")
    class_names = benchmark.class_names
    images = tuple(image for image, _ in pairs)
    masks = [mask for _, mask in pairs]
    class_ids, ignored_ids, truths = _numbering(layout, masks, len(class_names))
    return SemanticDataset(
        name=benchmark.name,
        split=split,
        class_names=class_names,
        class_ids=class_ids,
        ignored_ids=ignored_ids,
        images=images,
        truths=truths,
        vocabularies=benchmark.vocabularies(),
        palette=benchmark.palette,
    )


def check(name: str, root: str | os.PathLike[str], split: str = "val") -> list[str]:
    """What is missing of a benchmark and where it comes from, a line each; empty: nothing.

    Where no layout is complete, the lines are about one whose label maps are there, or else about
    the benchmark's first.

    Raises:
        ValueError: no such benchmark or split.
    """
    benchmark, root = find(name), Path(root)
    _check_split(benchmark, split)
    if not root.is_dir():
        return [f"{root} is no folder; give the one that holds the data sets"]
    found = _located(benchmark, root, split)
    if found is None:
        return _lacking(benchmark, root, split)
    layout, place = found
    try:
        pairs, faults = layout.pairs(place, split)
    except ValueError as error:
        return [str(error)]
    note = size_note(benchmark.name, split, len(pairs))
    return faults if note is None else [*faults, f"{place}: {note}"]


def size_note(name: str, split: str, count: int) -> str | None:
    """How a number of photographs differs from what the papers count; None where it does not.

    Raises:
        ValueError: no such benchmark or split.
    """
    benchmark = find(name)
    _check_split(benchmark, split)
    usual = benchmark.counts[split]
    if count in usual:
        return None
    return f"{count} photographs; {benchmark.name} {split} has {' or '.join(map(str, usual))}"


def _check_split(benchmark: Benchmark, split: str) -> None:
    if split not in benchmark.counts:
        allowed = " and ".join(repr(each) for each in benchmark.counts)
        raise ValueError(f"split {split!r} of {benchmark.name}; allowed are {allowed}")


def _located(benchmark: Benchmark, root: Path, split: str) -> tuple[Layout, Path] | None:
    """The first layout that is there, and where."""
    for layout in benchmark.layouts:
        for place in benchmark.places:
            if not layout.lacking(root / place, split):
                return layout, root / place
    return None


def _lacking(benchmark: Benchmark, root: Path, split: str) -> list[str]:
    """What keeps a layout from being read: one whose label maps are there, or else the first."""
    places = [(layout, root / place) for layout in benchmark.layouts for place in benchmark.places]
    lacking = [layout.lacking(place, split) for layout, place in places]
    with_masks = [i for i in range(len(places)) if "masks" not in lacking[i]]
    candidates = with_masks or range(len(benchmark.places))
    nearest = min(candidates, key=lambda i: len(lacking[i]))
    layout, place = places[nearest]
    paths, findings = layout.paths(place, split), []
    suffixes = {"images": layout.image_suffix, "masks": layout.mask_suffix}
    for kind in lacking[nearest]:
        what = f"{paths[kind]} is missing"
        if paths[kind].is_dir():
            what = f"{paths[kind]} holds no *{suffixes[kind]}"
        source = benchmark.images_from if kind == "images" else benchmark.masks_from
        if kind in layout.prepared:
            way = f"`lexiseg data prepare {benchmark.name} {root}` makes it out of {source}"
        else:
            way = f"get {source}"
        findings.append(f"{what}: {way}")
    return findings


def _numbering(
    layout: Layout, masks: list[Path], class_count: int
) -> tuple[tuple[int, ...], frozenset[int], tuple[Truth, ...]]:
    """The numbers of the classes, those that are ignored, and the label maps that hold them."""
    if len(layout.ids) == class_count:
        class_ids = tuple(sorted(layout.ids, key=layout.ids.__getitem__))
        return class_ids, layout.ignored, tuple(MaskFile(mask) for mask in masks)
    numbers = Renumbering.of(layout)
    truths = tuple(RenumberedMask(mask, numbers) for mask in masks)
    return tuple(range(class_count)), frozenset({IGNORED_ID}), truths


def _shown(places: tuple[str, ...]) -> str:
    return ", ".join(place or "the folder itself" for place in places)
