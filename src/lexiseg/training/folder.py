"""The folder of a run: whose it is, and that one process alone writes there."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lexiseg.atomic import write_atomically
from lexiseg.training.run import TrainConfig

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"
LOCK_FILE = ".lock"
# What may change between a run and its continuation: the weights do not depend on it.
FREE_FIELDS = ("workers", "keep", "tensorboard", "checkpoint_every")
# What a killed process leaves: of checkpoints, and of files beside the place they were meant for.
LEFTOVERS = (
    "checkpoints/.step-*.partial",
    "checkpoints/.step-*.removed",
    "checkpoints/step-*/.*.part",
    ".*.part",
)


@contextmanager
def held(out: Path) -> Iterator[bool]:
    """Keep ``out`` for this process meanwhile, and make it if need be; gives whether it is ours.

    The system lets go of it when the process ends, however that happens, and the last of its
    workers. Windows and file systems that know no such locks keep nothing: there it is always ours.
    """
    out.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with (out / LOCK_FILE).open("w") as file:
        ours = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ours = False
        except OSError as error:
            logger.info("%s cannot be locked: %s", out, error)
        yield ours


def sweep(out: Path) -> None:
    """Remove what a killed process left half done; only while the folder is held."""
    for pattern in LEFTOVERS:
        for path in out.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def check_run(
    out: Path, config: TrainConfig, about: Mapping[str, str], *, fingerprint: str = ""
) -> None:
    """Refuse a folder that holds another run.

    A setting that an older version did not have is there as its class has it by default.

    Args:
        out: the folder.
        config: of the run that is to be there.
        about: what else ``run.json`` says of it.
        fingerprint: of its data; "" where it is not known.

    Raises:
        ValueError: the run there differs; the message names the fields.
    """
    path = out / RUN_FILE
    if not path.is_file():
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        known = {**_flat(there["config"]), **{key: there.get(key) for key in about}}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); choose another folder") from error
    new = {**_flat(_as_json(asdict(config))), **about}
    old = {**_flat(_as_json(_defaults(config))), **known}
    differing = [
        f"{key} (there {old.get(key)!r}, now {new.get(key)!r})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in FREE_FIELDS
    ]
    if differing:
        raise ValueError(
            f"{out} holds a run with another configuration: {', '.join(differing)}; choose another "
            "folder, or the same settings to go on there"
        )
    if fingerprint and there.get("fingerprint") not in (None, fingerprint):
        raise ValueError(
            f"{out} holds a run on other data: images, label maps or names have changed since it "
            "began, or images were copied without the times of their last change (`cp -p` and "
            "`rsync -t` keep them); choose another folder, bring the data back, or take "
            f'"fingerprint" out of {path} to go on with these'
        )


def write_run(
    out: Path,
    config: TrainConfig,
    about: Mapping[str, str],
    *,
    fingerprint: str = "",
    following: str | None = None,
) -> None:
    """Say in the folder what is trained there.

    Args:
        out: the folder, made if need be.
        config: of the run.
        about: what else to say, by name.
        fingerprint: of its data.
        following: name of the stage that follows, and of its folder in this one.
    """
    out.mkdir(parents=True, exist_ok=True)
    more = {"fingerprint": fingerprint or None, "next": following}
    facts = {
        "lexiseg": version("lexiseg"),
        **about,
        **{key: value for key, value in more.items() if value is not None},
        "config": _as_json(asdict(config)),
    }
    write_atomically(out / RUN_FILE, (json.dumps(facts, indent=1) + "\n").encode())


def _defaults(config: Any) -> dict[str, Any]:
    """What the class of a configuration says of its fields, and of the dataclasses in them."""
    values = {each.name: (getattr(config, each.name), each.default) for each in fields(config)}
    return {
        name: _defaults(value) if is_dataclass(value) else default
        for name, (value, default) in values.items()
        if is_dataclass(value) or default is not MISSING
    }


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping)
        flat.update(_flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat
