"""``lexiseg convert``: a published checkpoint as safetensors, and what became of every key."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lexiseg.apps.terminal import echo, echo_json, fail, misuse, print_table

SHOWN_KEYS = 10


def convert(
    checkpoint: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINT...",
            help="The authors' file. For a model that starts from several: PART=FILE of each, such "
            "as clip=ViT-B-16.pt sam=sam_vit_b.pth.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT.safetensors", help="Where the weights are written.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Name of the architecture; by default the one that the keys fit."),
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Print every key and its place, not the counts alone.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report, every key in it, as a JSON object.")
    ] = False,
) -> None:
    """Write a published checkpoint as safetensors, without running anything that is in it.

    `lexiseg segment --model OUT.safetensors` and `Segmenter.from_pretrained` load the file.
    Exit codes: 0 done, 1 the file cannot be read or its keys do not fit, 2 wrong use.
    """
    from lexiseg.tools.conversion import convert as write
    from lexiseg.weights import UnsafeCheckpointError

    source: Any = _parts(checkpoint) if "=" in checkpoint[0] else checkpoint[0]
    if isinstance(source, str) and len(checkpoint) > 1:
        misuse(f"{len(checkpoint)} files came; give one, or PART=FILE for each and --model")
    try:
        report = write(source, out, model=model)
    except (UnsafeCheckpointError, OSError) as error:
        fail(str(error))
    except ValueError as error:
        misuse(str(error))
    if as_json:
        echo_json({**report.as_dict(), "file": str(out) if report.fits else None})
    else:
        _show(report, keys)
    if not report.fits:
        fail(f"the keys do not fit {report.model}; nothing was written")
    if not as_json:
        echo(f"weights: {out}")


def _parts(words: list[str]) -> dict[str, str]:
    """The file of each part."""
    pairs = [word.partition("=") for word in words]
    if not all(part and file for part, _, file in pairs):
        misuse(f"{' '.join(words)!r} came; give one file, or PART=FILE for each part")
    return {part: file for part, _, file in pairs}


def _show(report: Any, keys: bool) -> None:
    echo(f"model: {report.model}")
    if keys:
        rows = [
            (fate.part, fate.key, ", ".join(fate.places) or f"ignored: {fate.reason}")
            for fate in report.fates
        ]
        print_table(["file", "key", "loaded as"], rows)
    reasons: dict[str, int] = {}
    for fate in report.ignored:
        reasons[fate.reason] = reasons.get(fate.reason, 0) + 1
    echo(f"loaded: {len(report.loaded)} of {len(report.fates)} keys")
    for reason, count in reasons.items():
        echo(f"ignored: {count} keys, {reason}")
    if report.filled:
        echo(
            f"in no file: {len(report.filled)} tensors, which the model had before: bundled, or "
            "drawn at random and to be trained"
        )
    for kind in ("missing", "unexpected", "misshaped"):
        names = getattr(report, kind)
        if names:
            more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
            echo(f"{kind}: {', '.join(names[:SHOWN_KEYS])}{more}")
