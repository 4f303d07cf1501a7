"""The Dockerfile names what is there, and starts what there is. Nothing is built."""

import json
import re
from pathlib import Path

import typer.main

from lexiseg.apps.cli import app

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()


def instructions(name: str) -> list[str]:
    """The rest of every line that begins with an instruction."""
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def test_what_is_copied_is_in_the_context() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from")]
    sources = {source for each in copied for source in each}
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)


def test_it_starts_the_server_without_rights_and_with_a_key() -> None:
    assert instructions("USER") == ["10001"]
    program, verb, *words = json.loads(instructions("ENTRYPOINT")[0])
    assert program == "lexiseg"
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    given = command.make_context(verb, words, resilient_parsing=True).params
    assert (given["host"], given["port"]) == ("0.0.0.0", 8000)
    assert str(given["api_key_file"]) == "/run/secrets/key"
    assert instructions("EXPOSE") == ["8000"]
    (check,) = re.findall(r"http://127[^']*", instructions("HEALTHCHECK")[0])
    assert check == "http://127.0.0.1:8000/ready"


def test_every_extra_that_it_installs_is_one() -> None:
    wanted = re.findall(r'"\.\[([\w,]+)\]"', " ".join(instructions("RUN")))
    metadata = (ROOT / "pyproject.toml").read_text()
    assert wanted == ["serve"]
    assert all(re.search(rf"^{extra} = \[", metadata, re.MULTILINE) for extra in wanted)
