"""Measurements as pictures: one of what models cost over labels and over pixels, and so on."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from lexiseg._extras import need

Row = Mapping[str, Any]
DPI = 120
COLOURS = 64  # of the file: lines and letters need no more, and it is a third as large
LINES = {"eager": "-", "compiled": ":", "onnx": "--", "int8": "-."}
MARKS = {"eager": "o", "compiled": "*", "onnx": "s", "int8": "^"}


@dataclass(frozen=True)
class Plot:
    """One picture.

    Attributes:
        name: of its file.
        over: the number that varies along it; the others stay.
        x_label: with its unit.
        y_label: likewise.
        value: of a row; None leaves it out.
        log: whether the values stand on a logarithmic axis.
    """

    name: str
    over: str
    x_label: str
    y_label: str
    value: Callable[[Row], float | None]
    log: bool = True


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the plots that the rows are enough for: a line for each model and engine.

    Args:
        found: ``machine`` and ``rows``, as :func:`lexiseg.tools.bench.bench` gives them.
        folder: is there.

    Returns:
        The files.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    need("matplotlib", extra="plot", purpose="A plot")
    files = []
    for plot in _plots(found["machine"]["clock"]):
        lines = lines_of(found["rows"], plot)
        if not lines:
            continue
        path = folder / f"bench_{plot.name}.png"
        _write(plot, lines, path)
        files.append(path)
    return files


def lines_of(rows: Sequence[Row], plot: Plot) -> dict[tuple[str, str], list[tuple[int, float]]]:
    """Points by model and engine, from those rows alone that differ in one number.

    Of the other two numbers those are kept at which the most values of the first were measured.
    A line is a single point where one value alone was; without any line of two there is no plot.
    """
    others = [name for name in ("labels", "size", "batch") if name != plot.over]
    groups: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if plot.value(row) is not None:
            groups[tuple(row[name] for name in others)].append(row)
    chosen = max(groups.values(), key=lambda group: len({r[plot.over] for r in group}), default=[])
    lines: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for row in chosen:
        value = plot.value(row)
        assert value is not None  # those were left out
        lines[row["model"], row["engine"]][row[plot.over]] = value
    if all(len(points) < 2 for points in lines.values()):
        return {}
    return {key: sorted(points.items()) for key, points in lines.items()}


def _plots(clock: str) -> tuple[Plot, ...]:
    of_processor = clock == "processor"
    key = "cpu_seconds" if of_processor else "seconds"
    seconds = f"{'processor ' if of_processor else ''}seconds a batch, texts cached"
    labels, side = "labels, or sentences", "side of the image, pixels"
    return (
        Plot("seconds_labels", "labels", labels, seconds, lambda row: row[key]),
        Plot("seconds_sides", "size", side, seconds, lambda row: row[key]),
        Plot(
            "text_labels",
            *("labels", labels, f"{'processor ' if of_processor else ''}seconds, all texts"),
            lambda row: row[f"text_{key}"] if row["engine"] != "compiled" else None,
        ),
        Plot(
            "work_labels",
            *("labels", labels, "GFLOP a batch"),
            lambda row: row["gflop"] if row["engine"] == "eager" else None,
        ),
        Plot("memory_labels", "labels", labels, "growth, MB", lambda row: row["extra_mb"] or None),
        Plot(
            "utilisation_labels",
            *("labels", labels, "part of a large matrix product's speed"),
            lambda row: row["utilisation"],
            log=False,
        ),
    )


def _write(
    plot: Plot, lines: Mapping[tuple[str, str], list[tuple[int, float]]], path: Path
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), facecolor="white")  # readable on a dark page too
    axes = figure.add_subplot()
    models = sorted({model for model, _ in lines})
    eager_first = sorted(lines, key=lambda key: (key[0], key[1] != "eager", key[1]))
    for model, engine in eager_first:
        points = lines[model, engine]
        axes.plot(
            *zip(*points, strict=True),
            color=f"C{models.index(model)}",
            linestyle=LINES.get(engine, "-"),
            marker=MARKS.get(engine, "o"),
            markersize=4 if len(points) > 1 else 8,
            label=model if engine == "eager" else f"{model}, {engine}",
        )
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.set_xscale("log")
    ticks = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.minorticks_off()
    if plot.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small", frameon=False)
    figure.tight_layout()
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)
