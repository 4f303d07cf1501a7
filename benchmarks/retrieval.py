"""What a search in a large bank costs: time of a query and memory.

python benchmarks/retrieval.py [ROWS] [WIDTH] [exact|flat|hnsw|ivf]

Keys are noise of half precision in a file that is mapped, as those of a bank are. Two million rows
of 768 take 3.1 GB of disk; 200,000 (the default) give a tenth of its time. Memory is what the
process holds by itself, and what of the mapped file is in memory besides.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from lexiseg.methods.freeda.retrieval import ExactIndex, build_faiss

BLOCK = 50_000
TEXTS = (1, 21, 171)
K = 350


def main(rows: str = "200000", width: str = "768", kind: str = "exact") -> None:
    """Build, search, print one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        keys = noise(Path(folder), int(rows), int(width))
        before, start = memory(), time.perf_counter()
        index = ExactIndex(keys) if kind == "exact" else build_faiss(keys, kind)
        built = time.perf_counter() - start
        seconds = {}
        for texts in TEXTS:
            queries = F.normalize(torch.randn(texts, int(width)), dim=1)
            index.search(queries, K)
            start = time.perf_counter()
            index.search(queries, K)
            seconds[texts] = round(time.perf_counter() - start, 3)
        after = memory()
        found = {
            "rows": int(rows),
            "width": int(width),
            "kind": kind,
            "vectors_mb": round(int(rows) * int(width) * 2 / 1e6),
            "own_mb": round(after["RssAnon"] - before["RssAnon"]),
            "mapped_mb": round(after["RssFile"] - before["RssFile"]),
            "build_seconds": round(built, 1),
            "seconds_of_texts": seconds,
            "threads": torch.get_num_threads(),
        }
        print(json.dumps(found))


def noise(folder: Path, rows: int, width: int) -> torch.Tensor:
    """Keys that lie on disk."""
    torch.manual_seed(0)
    path = folder / "keys.bin"
    with path.open("wb") as file:
        for first in range(0, rows, BLOCK):
            block = F.normalize(torch.randn(min(BLOCK, rows - first), width), dim=1)
            file.write(block.half().numpy().tobytes())
    mapped = torch.from_file(str(path), size=rows * width, dtype=torch.float16)
    return mapped.view(rows, width)


def memory() -> dict[str, float]:
    """Of this process, in MB; on Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) / 1e3 for name in ("RssAnon", "RssFile")}


if __name__ == "__main__":
    main(*sys.argv[1:])
