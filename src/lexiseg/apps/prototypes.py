"""``lexiseg prototypes``: banks of prototypes for FreeDA, built, taught, joined and checked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lexiseg.apps.terminal import (
    FAILED,
    complain,
    echo,
    echo_json,
    misuse,
    note,
    print_table,
    progress,
    reason,
)

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Banks of prototypes for FreeDA: build, teach, join and check them.",
)

Bank = Annotated[Path, typer.Argument(metavar="BANK", help="Folder of a bank.")]
Dino = Annotated[Path | None, typer.Option(help="An official DINOv2 file; with --clip.")]
Clip = Annotated[Path | None, typer.Option(help="An official CLIP file; with --dino.")]
Lite = Annotated[bool, typer.Option("--lite", help="The bundled encoder, without any file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


@app.command(
    epilog="Example: `lexiseg prototypes build --captions captions.txt --out bank --lite "
    "--diffusion stable-diffusion-v1-5/stable-diffusion-v1-5`"
)
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
    engine: Annotated[str, typer.Option(help="local, or ray for many machines.")] = "local",
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
        encoders=_encoders(dino, clip, lite),
    )
    if engine not in ("local", "ray"):
        misuse(f"engine {engine!r}; the engines are local and ray")
    try:
        finished = _build(recipe, tasks, out, images, (engine, address, workers))
    except (OSError, ImportError, RuntimeError, MemoryError) as error:
        _fail(out, error)
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


@app.command(epilog="Example: `lexiseg prototypes add bank --images tractors --lite`")
def add(
    bank: Bank,
    images: Annotated[
        Path,
        typer.Option(
            help="Folder with regions.json (boxes or clicks), or with classes.json and masks."
        ),
    ],
    split: Annotated[str, typer.Option(help="Of a folder that has several.")] = "train",
    dino: Dino = None,
    clip: Clip = None,
    lite: Lite = False,
    as_json: AsJson = False,
) -> None:
    """Add prototypes from annotated pictures of your own to a bank, or begin one.

    Exit codes: 0 done, 1 failed, 2 wrong use.
    """
    from lexiseg.data.examples import read_pictures
    from lexiseg.methods.freeda.bank_files import HEADER
    from lexiseg.methods.freeda.offline.annotated import add_pictures, open_for
    from lexiseg.segmenter import choose_device

    encoders = _encoders(dino, clip, lite)
    try:
        pictures = read_pictures(images, split)
        encoder = encoders.load(choose_device())
        if (bank / HEADER).exists():
            open_for(bank, encoder)
        added = add_pictures(bank, pictures, encoder)
    except (OSError, ImportError, RuntimeError, MemoryError) as error:
        _fail(bank, error)
    except ValueError as error:
        misuse(str(error))
    _tell(bank, as_json, added=added)


@app.command(epilog="Example: `lexiseg prototypes info bank --json`")
def info(bank: Bank, as_json: AsJson = False) -> None:
    """Say what a bank holds: rows, words, and which encoders made it.

    Exit codes: 0 done, 2 no bank.
    """
    _tell(bank, as_json)


@app.command(epilog="Example: `lexiseg prototypes merge all --from bank-1 --from bank-2`")
def merge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the bank of all.")],
    banks: Annotated[
        list[Path], typer.Option("--from", help="A bank; give it several times, in order.")
    ],
    as_json: AsJson = False,
) -> None:
    """Join banks that the same encoders made; shards in their order give the bank of the whole.

    Exit codes: 0 done, 1 failed, 2 wrong use.
    """
    from lexiseg.methods.freeda.bank import merge as join

    if out.exists():
        misuse(f"{out} is there; choose another name for the bank of all")
    try:
        join(banks, out)
    except OSError as error:
        _fail(out, error)
    except ValueError as error:
        misuse(str(error))
    _tell(out, as_json)


@app.command(epilog="Example: `lexiseg prototypes verify bank`")
def verify(bank: Bank, as_json: AsJson = False) -> None:
    """Read all of a bank: checksums, shapes, finite numbers, records, rows that stand twice.

    Exit codes: 0 all is well, 1 something is wrong.
    """
    from lexiseg.methods.freeda.bank import verify as check

    problems = check(bank)
    if as_json:
        echo_json({"bank": str(bank), "problems": problems})
    for problem in problems:
        complain(problem)
    if not problems and not as_json:
        echo(f"{bank}: all is well")
    raise typer.Exit(FAILED if problems else 0)


def _encoders(dino: Path | None, clip: Path | None, lite: bool) -> Any:
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
    from lexiseg.methods.freeda.offline.collection import CollectionSettings, make_tasks
    from lexiseg.methods.freeda.offline.recipe import Recipe, read_words
    from lexiseg.methods.freeda.offline.text_keys import key_kind
    from lexiseg.segmenter import choose_device

    parts = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if parts is None:
        misuse(f"shard {shard!r}; give which and of how many, such as 2/8")
    try:
        settings = CollectionSettings(
            choices.pop("threshold"), key_kind(choices.pop("key")), seed, choices.pop("keep_images")
        )
        tasks = make_tasks(
            read_sentences(captions), seed=seed, shard=(int(parts[1]), int(parts[2]))
        )
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


def _tell(bank: Path, as_json: bool, **more: Any) -> None:
    """What a bank is, and how often its commonest words occur."""
    from collections import Counter

    from lexiseg.methods.freeda.bank import PrototypeBank
    from lexiseg.methods.freeda.bank import info as describe

    try:
        described = {**describe(bank), **more}
        counts = Counter(record.word for record in PrototypeBank.open(bank).records())
    except ValueError as error:
        misuse(str(error))
    if as_json:
        echo_json({**described, "words": dict(counts.most_common())})
        return
    rows = [(name, str(value)) for name, value in described.items()]
    commonest = ", ".join(f"{word} {count}" for word, count in counts.most_common(10))
    print_table(["what", "value"], [*rows, ("words", str(len(counts))), ("commonest", commonest)])


def _fail(path: Path, error: BaseException) -> NoReturn:
    complain(str(error) if isinstance(error, ImportError) else reason(path, error))
    raise typer.Exit(FAILED) from error
