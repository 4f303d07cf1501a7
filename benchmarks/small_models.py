"""The table of the README: what the bundled models score and cost, as Markdown.

python benchmarks/small_models.py ../shared/data [OUT]

mIoU is the mean over the val splits below, by `lexiseg evaluate`, whose records go to OUT; what is
there already is not computed again. That of a model for sentences is the mean over the sentences
made from the val photographs. Seconds are those of a picture of 384 x 384 pixels with 20 words that
are cached; memory is the peak of the whole command `lexiseg segment` on a photograph.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from val_splits import VAL_SPLITS

SENTENCES = "cris_lite"
MODELS = (
    *("catseg_lite", "escnet_lite", "freeda_lite", "segclip_lite", SENTENCES),
    *("maskclip_lite", "maskclip_lite_weak", "two_stage_lite"),
)
PHOTO = Path(__file__).parent.parent / "examples" / "photos" / "truck.jpg"
WORDS = "truck, wheel, road, wall, window"


def main(root: str, out: str = "lexiseg_scores") -> None:
    """Score, measure, print."""
    scores = {name: score(name, Path(root), out) for name in MODELS}
    rows = json.loads(run("bench", *MODELS, "--json"))["rows"]
    seconds = {row["model"]: row["seconds"] for row in rows}
    print("| model | mIoU | seconds a picture | peak memory, MB |")
    print("| --- | --- | --- | --- |")
    for name in MODELS:
        print(f"| `{name}` | {scores[name]:.3f} | {seconds[name]:.2f} | {peak(name):.0f} |")


def score(name: str, root: Path, out: str) -> float:
    """Mean mIoU over the val splits."""
    data = [("generated", "--data-root", str(root))]
    if name != SENTENCES:
        data = [(str(root / split),) for split in VAL_SPLITS]
    rows = [run("evaluate", name, *each, "--json", "--out", out) for each in data]
    return statistics.mean(json.loads(row)["mIoU"] for row in rows)


def peak(name: str) -> float:
    """Megabytes of `lexiseg segment` at most."""
    command = [*LEXISEG, "segment", str(PHOTO), "--labels", WORDS, "--model", name, "--out"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([*command, folder], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return used.ru_maxrss / 1024


def run(*arguments: str) -> str:
    """What a command of lexiseg prints."""
    return subprocess.run([*LEXISEG, *arguments], check=True, capture_output=True, text=True).stdout


LEXISEG = (sys.executable, "-m", "lexiseg")

if __name__ == "__main__":
    main(*sys.argv[1:])
