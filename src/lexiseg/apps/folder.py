"""``lexiseg segment`` on folders: a job that resumes, in parts, with a manifest of what is done."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lexiseg.apps.loading import load_segmenter
from lexiseg.apps.terminal import complain, fail, misuse, note, progress, quiet_pictures, reason

Show = Callable[[str, list[dict[str, Any]], dict[str, Path]], None]


def is_job(photos: Sequence[Path], out: Path, *, recursive: bool, shard: str) -> bool:
    """Whether the results are kept account of: of folders, of parts, and where a job has been."""
    from lexiseg.jobs.manifest import manifests

    return recursive or shard != "1/1" or any(map(Path.is_dir, photos)) or bool(manifests(out))


def run_folder_job(
    work: Any,
    photos: Sequence[Path],
    out: Path,
    *,
    model: str,
    recursive: bool,
    shard: tuple[int, int],
    workers: int,
    resume: bool,
    engine: str,
    show: Show,
) -> bool:
    """Does what is left to do; whether every photo of this part has its results.

    Args:
        work: what is done with a photo.
        photos: pictures and folders.
        out: the output folder.
        model: its name, for the settings.
        recursive: folders below those too.
        shard: (i, n), from 0.
        workers: threads beside the model, or workers of a Ray cluster.
        resume: go on; otherwise the results of an earlier job are removed first.
        engine: "local" or "ray".
        show: prints a photo's table.
    """
    from lexiseg.jobs.manifest import Manifest, remove_results
    from lexiseg.jobs.merged import merge, remove_merged
    from lexiseg.jobs.photos import assign, is_settled, list_photos, root_of

    try:
        if not resume:
            remove_results(out)
            remove_merged(out)
        settings = {**describe(work, model), "root": str(root_of(photos))}
        found, problems = list_photos(photos, recursive=recursive, out=out)
        for problem in problems:
            complain(problem)
        if not found:
            return False
        with Manifest(out, settings, shard=shard) as manifest:
            tasks = assign(found, out, work.formats, work.labels.labels, manifest.entries)
            mine = tasks[shard[0] :: shard[1]]
            before = {task.photo.key: manifest.entries.get(task.photo.key) for task in mine}
            todo = [task for task in mine if not is_settled(task, before[task.photo.key])]
            skipped = len(mine) - len(todo)
            if skipped:
                note(f"{skipped} of {len(mine)} photos are settled already; {len(todo)} to do")
            if todo:
                remove_merged(out)
            with _engine(engine, work, model, workers) as chosen:
                _work_off(todo, chosen, manifest, show)
            for path in merge(manifest, tasks).values():
                note(f"all photos in one file: {path}")
            tried = {task.photo.key for task in todo}
            for task in mine:
                entry = manifest.entries[task.photo.key]
                if task.photo.key not in tried and entry.state == "failed":
                    complain(reason(task.photo.path, f"{entry.reason} (before)"))
            return not problems and all(
                manifest.entries[task.photo.key].state == "done" for task in mine
            )
    except ImportError as error:
        fail(str(error))
    except BlockingIOError as error:
        fail(str(error.strerror))
    except ValueError as error:
        misuse(str(error))


def _work_off(todo: Sequence[Any], engine: Any, manifest: Any, show: Show) -> None:
    """Run the engine behind a bar, with a report of each photo."""
    from lexiseg.jobs.job import run_job

    with progress(len(todo), "segmenting") as advance, quiet_pictures():

        def tell(task: Any, outcome: Any) -> None:
            path = task.photo.path
            if outcome.table is None:
                advance(partial(complain, reason(path, outcome.reason)))
            else:
                advance(partial(show, str(path), outcome.table, dict(task.files)))

        run_job(engine, todo, manifest, on_outcome=tell)


@contextmanager
def _engine(name: str, work: Any, model: str, workers: int) -> Iterator[Any]:
    """What runs the work: this process, or the cluster at $RAY_ADDRESS, or one of this machine."""
    from lexiseg.jobs.job import local_engine

    if name == "local":
        yield local_engine(work, workers=workers)
        return
    from lexiseg._ray import connected
    from lexiseg.jobs.cluster import ray_engine

    rest = {"labels": work.labels, "background": work.background, "formats": work.formats}
    load = partial(load_work, model, work.segmenter.max_pixels, {**rest, "tile": work.tile})
    device = getattr(work.segmenter, "device", None)  # an exported model has none
    gpus = int(device is not None and device.type == "cuda")
    spread = ray_engine(load, workers=max(1, workers), gpus=gpus)
    with connected(os.environ.get("RAY_ADDRESS")):
        yield spread


def load_work(model: str, max_pixels: int, rest: dict[str, Any]) -> Any:
    """The work, with a model that is loaded where this is called."""
    from lexiseg.jobs.job import Work

    segmenter = load_segmenter(model)
    segmenter.max_pixels = max_pixels
    return Work(segmenter, **rest)


def describe(work: Any, model: str) -> dict[str, Any]:
    """All that decides what results are, for the manifest."""
    from importlib.metadata import version

    from lexiseg.weights import state_sha256

    segmenter = work.segmenter
    exported = hasattr(segmenter, "fingerprint")
    return {
        "labels": dict(zip(work.labels.labels, map(list, work.labels.names), strict=True)),
        "background": list(work.background.names) or work.background.threshold,
        "model": model,
        "weights": segmenter.fingerprint()
        if exported
        else state_sha256(segmenter.model.state_dict()),
        "protocol": "export" if exported else repr(segmenter.protocol),
        "templates": list(segmenter.templates),
        "format": list(work.formats),
        "tile": work.tile,
        "lexiseg": version("lexiseg"),
    }
