"""``lexiseg prototypes build``: captions to images by diffusion, their words to a bank."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from lexiseg.apps.terminal import (
    AsJson,
    echo,
    echo_json,
    fail,
    misuse,
    note,
    progress,
    read_shard,
    reason,
)

Dino = Annotated[Path | None, typer.Option(help="An official DINOv2 file; with --clip.")]
Clip = Annotated[Path | None, typer.Option(help="An official CLIP file; with --dino.")]
Lite = Annotated[bool, typer.Option("--lite", help="The bundled encoder, without any file.")]


def build(
    captions: Annotated[
        Path, typer.Option(help="A caption a line; or JSON, such as COCO's captions.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bank.")],
    diffusion: Annotated[
        str, typer.Option(help="Stable Diffusion: a folder of diffusers, or a name on the hub.")
    ],
    dino: Dino = None,
    clip: Clip = None,
    lite: Lite = False,
    words: Annotated[
        Path | None,
        typer.Option(help="The words that become prototypes, one a line.  [default: bundled]"),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="What a pixel of a word's map must exceed, 0 to 1.")
    ] = 0.4,
    key: Annotated[
        str, typer.Option(help="What a prototype is found by: context, template or caption.")
    ] = "context",
    seed: Annotated[int, typer.Option(help="Of all images.")] = 0,
    steps: Annotated[int, typer.Option(help="Of denoising.")] = 50,
    guidance: Annotated[float, typer.Option(help="Scale of the guidance.")] = 7.5,
    shard: Annotated[
        str, typer.Option(help="Which part of the captions, I/N; merge the banks in this order.")
    ] = "1/1",
    images: Annotated[
        Path | None, typer.Option(help="Folder to keep the generated images in.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This process, or Ray for many machines.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster.  [default: one on this machine]")
    ] = None,
    workers: Annotated[int, typer.Option(help="Of Ray; one GPU each where there are.", min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Build a bank: captions to images by diffusion, their words to prototypes.

    Killed and called again, it goes on where it was, and the bank is the same. Exit codes: 0 done,
    1 failed, 2 wrong use.
    """
    recipe, tasks = _planned(
        captions,
        words,
        seed=seed,
        shard=shard,
        diffusion=diffusion,
        steps=steps,
        guidance=guidance,
        threshold=threshold,
        key=key,
        keep_images=images is not None,
        encoders=read_encoders(dino, clip, lite),
    )
    try:
        finished = _build(recipe, tasks, out, images, (engine, address, workers))
    except (OSError, ImportError, RuntimeError, MemoryError) as error:
        end(out, error)
    except ValueError as error:
        misuse(str(error))
    report = {"bank": str(out), **finished}
    if as_json:
        echo_json(report)
        return
    told = ", ".join(f"{report[key]} {key}" for key in ("rows", "words", "captions"))
    echo(f"{out}: {told}")
    for why, count in report["left_out"].items():
        note(f"{count} left out: {why}")


def read_encoders(dino: Path | None, clip: Path | None, lite: bool) -> Any:
    """Which encoders are meant; exactly one pair."""
    given = (dino is not None, clip is not None)
    if given not in ((False, False), (True, True)) or lite == given[0]:
        misuse(
            "give --dino FILE and --clip FILE for the paper's encoders, or --lite for the bundled"
        )
    from lexiseg.methods.freeda.offline.recipe import EncoderFiles

    return EncoderFiles(*(None if file is None else str(file) for file in (dino, clip)))


def _planned(
    captions: Path, words: Path | None, *, seed: int, shard: str, **choices: Any
) -> tuple[Any, Any]:
    """The recipe and the captions, checked before a model is loaded."""
    from lexiseg.data.captions.sentences import read_sentences
    from lexiseg.devices import choose_device
    from lexiseg.methods.freeda.offline.collection import CollectionSettings
    from lexiseg.methods.freeda.offline.recipe import Recipe, read_words
    from lexiseg.methods.freeda.offline.tasks import make_tasks
    from lexiseg.methods.freeda.offline.text_keys import key_kind

    part, count = read_shard(shard)
    try:
        settings = CollectionSettings(
            choices.pop("threshold"), key_kind(choices.pop("key")), seed, choices.pop("keep_images")
        )
        tasks = make_tasks(read_sentences(captions), seed=seed, shard=(part + 1, count))
        names = read_words(words) if words else ()
        recipe = Recipe(names=names, settings=settings, device=str(choose_device()), **choices)
    except ValueError as error:
        misuse(str(error))
    return recipe, tasks


def _build(
    recipe: Any, tasks: Any, out: Path, images: Path | None, how: tuple[str, str | None, int]
) -> dict[str, Any]:
    """Work at what is not done, and make the bank."""
    from dataclasses import asdict

    from lexiseg.methods.freeda.offline.building import Job

    with _engine(recipe, *how) as (engine, identity, kind):
        job = Job(out, tasks, identity, kind)
        finished = job.begin()
        if finished is None:
            with progress(len(tasks), "generating") as advance:
                for _ in range(job.done):
                    advance()
                for _ in job.work(engine, images):
                    advance()
            finished = job.finish()
    return asdict(finished)


@contextmanager
def _engine(
    recipe: Any, engine: str, address: str | None, workers: int
) -> Iterator[tuple[Any, Any, Any]]:
    """What works at captions, and what decides the outcome."""
    if engine == "ray":
        from lexiseg._ray import connected
        from lexiseg.methods.freeda.offline.distributed import describe, ray_engine

        with connected(address):
            identity, kind = describe(recipe)
            yield ray_engine(recipe, workers), identity, kind
        return
    from lexiseg.methods.freeda.offline.building import local_engine

    collector = recipe.load()
    yield local_engine(collector), collector.identity(), collector.encoder.kind


def end(path: Path, error: BaseException) -> NoReturn:
    """Complain of what kept a bank from being written, and end."""
    fail(str(error) if isinstance(error, ImportError) else reason(path, error))
