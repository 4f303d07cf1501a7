"""What is installed here, and what each model lacks. Nothing is downloaded."""

import hashlib
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lexiseg import registry
from lexiseg.cache import cache_folder
from lexiseg.weights import (
    UnsafeCheckpointError,
    Weights,
    cached_path,
    fetch,
    read_metadata,
)

PACKAGE = "lexiseg"
FOR_DEVELOPERS = ("dev",)
_REQUIREMENT = re.compile(r"""^([\w.-]+)[^;]*(?:;.*extra\s*==\s*["']([\w-]+)["'])?""")

# Who publishes the files that models are put together of.
PART_ORIGINS = {
    "clip": "https://github.com/openai/CLIP",
    "sam": "https://github.com/facebookresearch/segment-anything",
    "dino": "https://github.com/facebookresearch/dinov2",
    "lite": "bundled",
    "bank": "lexiseg prototypes",
}


def diagnose() -> dict[str, Any]:
    """All of it, as JSON can hold it: ``system``, ``packages``, ``extras``, ``models``."""
    requirements = _requirements()
    return {
        "system": system(),
        "packages": {name: _version(name) for name in requirements.pop("", [])},
        "extras": [
            _extra(name, packages)
            for name, packages in sorted(requirements.items())
            if name not in FOR_DEVELOPERS
        ],
        "models": [row for arch in registry.registered() for row in _models(arch)],
    }


def system() -> dict[str, Any]:
    """Versions, devices, threads and the cache folder."""
    devices = ["cpu"]
    devices += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    return {
        "lexiseg": _version(PACKAGE),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "torch": torch.__version__,
        "devices": devices,
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cache": str(cache_folder()),
    }


def weights_state(weights: Weights) -> dict[str, Any]:
    """Whether a file of weights is here: its ``state``, ``path``, ``origin`` and what to ``do``.

    States are "bundled", "cached" (with the published checksum, or none is published), "damaged",
    "absent" (it is downloaded when it is first used) and "by hand".
    """
    row = {"path": None, "sha256": weights.sha256, "origin": weights.origin, "do": None}
    if weights.asset is not None:
        path = fetch(weights)
        return {**row, "state": _bundled(path), "path": str(path)}
    if weights.url is None:
        take = f"take the file from {weights.origin} and give it: --model ARCH=FILE"
        return {**row, "state": "by hand", "do": take}
    path = cached_path(weights.url, weights.sha256)
    row |= {"path": str(path), "origin": weights.url}
    if not path.is_file():
        get = f"it is downloaded when first used; without a network, put {weights.url} at {path}"
        return {**row, "state": "absent", "do": get}
    if weights.sha256 is not None and _sha256(path) != weights.sha256:
        return {**row, "state": "damaged", "do": f"its checksum is wrong: delete {path}"}
    return {**row, "state": "cached"}


def _models(arch: str) -> list[dict[str, Any]]:
    records = registry.weights_of(arch)
    rows = [{"model": name, **weights_state(record)} for name, record in records.items()]
    if rows:
        return rows
    with torch.device("meta"):
        parts = registry.builder_of(arch)().parts
    files = ",".join(f"{part}=FILE" for part in parts)
    origins = {part: PART_ORIGINS.get(part, "its authors") for part in parts}
    do = f"give its weights: --model {arch}=FILE; lexiseg train --list has what can be trained"
    if parts:
        do += f"; it starts from several: --model {arch}={files}"
    row = {"path": None, "sha256": None, "origin": origins or None, "do": do}
    return [{"model": arch, **row, "state": "none published"}]


def _bundled(path: Path) -> str:
    try:
        read_metadata(path)
    except (OSError, UnsafeCheckpointError):
        return "damaged"
    return "bundled"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _extra(name: str, packages: list[str]) -> dict[str, Any]:
    versions = {package: _version(package) for package in packages}
    missing = [package for package, version in versions.items() if version is None]
    install = f'pip install "{PACKAGE}[{name}]"' if missing else None
    return {"extra": name, "packages": versions, "missing": missing, "install": install}


def _requirements() -> dict[str, list[str]]:
    """Packages by extra, those of the core under ""."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires(PACKAGE) or []:
        match = _REQUIREMENT.match(line)
        assert match is not None  # every requirement begins with a name
        if match[1] != PACKAGE:
            found.setdefault(match[2] or "", []).append(match[1])
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
