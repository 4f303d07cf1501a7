"""The hub, against a stand-in of it on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lexiseg import hub
from lexiseg.segmenter import Segmenter
from lexiseg.weights import read_weights, save_weights
from tests.hub_stand_in import TOKEN, StandIn, hub_stand_in

ADDRESS = "hf:someone/painter"
uploads = pytest.mark.filterwarnings(  # huggingface_hub's own way to call httpx
    "ignore:Use 'content=:DeprecationWarning"
)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A hub without repositories, an empty cache, and someone who is logged in."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # a protocol that it does not speak
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with hub_stand_in() as hub_there:
        point_to(hub_there.address, monkeypatch)
        yield hub_there


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_ENDPOINT does, which huggingface_hub reads when it is imported."""
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    assert template.startswith("/")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file as ``lexiseg export-weights`` writes it, with its card."""
    path = tmp_path / "painter.safetensors"
    save_weights(path, {"gain": torch.tensor(3.0)}, {"model": "painter"})
    path.with_suffix(".md").write_text("---\nlicense: mit\n---\n# painter\n", encoding="utf-8")
    return path


@pytest.fixture
def there(stand_in: StandIn, weights: Path) -> StandIn:
    """The hub with these weights on it."""
    stand_in.commit("someone/painter", "main", {hub.WEIGHTS_FILE: weights.read_bytes()})
    return stand_in


def gain(name: str) -> float:
    return float(Segmenter.from_pretrained(name, device="cpu").model.gain.detach())


def cached_files(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "cache").rglob("*") if path.suffix == ".safetensors"]


@uploads
def test_up_and_down_again(stand_in: StandIn, weights: Path, registered_painter: str, flag) -> None:
    page = hub.push_to_hub(weights, "someone/painter", private=True)
    commit = stand_in.heads["someone/painter"]["main"]
    assert page == f"{stand_in.address}/someone/painter/commit/{commit}"
    files = stand_in.commits["someone/painter"][commit]
    assert files == {
        "model.safetensors": weights.read_bytes(),
        "README.md": weights.with_suffix(".md").read_bytes(),
    }
    assert stand_in.private == {"someone/painter"}
    for address in (ADDRESS, "hf://someone/painter", f"{ADDRESS}@main", f"{ADDRESS}@{commit}"):
        assert gain(address) == 3.0
    downloads = [request for request in stand_in.seen if request.startswith("GET")]
    assert len([request for request in downloads if hub.WEIGHTS_FILE in request]) == 1, downloads
    segmenter = Segmenter.from_pretrained(ADDRESS, device="cpu")
    assert (segmenter(flag, "red").label_map == 0).all()


@uploads
def test_a_second_push_is_a_second_commit(
    stand_in: StandIn, weights: Path, registered_painter: str
) -> None:
    hub.push_to_hub(weights, "someone/painter")
    first = stand_in.heads["someone/painter"]["main"]
    assert gain(ADDRESS) == 3.0
    save_weights(weights, {"gain": torch.tensor(4.0)}, {"model": "painter"})
    hub.push_to_hub(weights, "someone/painter")
    assert gain(ADDRESS) == 4.0
    assert gain(f"{ADDRESS}@{first}") == 3.0
    assert stand_in.private == set()


def test_offline_takes_the_cache(
    there: StandIn, registered_painter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gain(ADDRESS) == 3.0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    there.seen.clear()
    assert gain(ADDRESS) == 3.0
    with pytest.raises(
        ConnectionError, match="^hf:someone/other: it is not in the cache, and offline mode is on$"
    ):
        hub.download("hf:someone/other")
    assert there.seen == []


def test_a_hub_that_does_not_answer(
    there: StandIn, registered_painter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert gain(ADDRESS) == 3.0
    point_to("http://127.0.0.1:9", monkeypatch)
    assert gain(ADDRESS) == 3.0
    with pytest.raises(ConnectionError, match="^hf:someone/other: .*") as caught:
        hub.download("hf:someone/other")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("flipped", ValueError, "has SHA-256 .*, but the hub states .*; it was not kept"),
        ("short", ConnectionError, "Consistency check failed: file should be of size"),
        ("cut", ConnectionError, "."),
    ],
)
def test_a_bad_download_is_not_kept(
    there: StandIn,
    registered_painter: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    there.fault = fault
    with pytest.raises(error, match=f"^{ADDRESS}: .*{message}") as caught:
        hub.download(ADDRESS)
    assert "\n" not in str(caught.value)
    assert cached_files(tmp_path) == []
    there.fault = ""
    assert gain(ADDRESS) == 3.0


def test_a_file_that_decayed_in_the_cache_is_not_used(
    there: StandIn, registered_painter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hub.download(ADDRESS)
    content = path.read_bytes()
    path.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="but the hub states"):
        gain(ADDRESS)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert gain(ADDRESS) == 3.0


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf:someone/other", "no such repository, or not one for you"),
        ("hf:someone/painter@v9", "the repository has no such revision"),
        ("hf:someone/empty", "the repository has no model.safetensors"),
    ],
)
def test_what_is_not_there(there: StandIn, address: str, message: str) -> None:
    there.commit("someone/empty", "main", {"README.md": b""})
    with pytest.raises(ValueError, match=f"^{address}: {message}") as caught:
        hub.download(address)
    assert "\n" not in str(caught.value)


def test_other_weights_are_told_from_ours(there: StandIn, tmp_path: Path) -> None:
    save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    content = (tmp_path / "other.safetensors").read_bytes()
    there.commit("someone/other", "main", {hub.WEIGHTS_FILE: content})
    with pytest.raises(ValueError, match="does not say which model it belongs to"):
        Segmenter.from_pretrained("hf:someone/other")


@pytest.mark.parametrize(
    "address",
    ["hf:painter", "hf:", "hf://", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b c", "hf:a/b--c"],
)
def test_addresses_that_cannot_be(address: str) -> None:
    with pytest.raises(ValueError, match="names no repository of the hub; write hf:OWNER/NAME"):
        Segmenter.from_pretrained(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf:a/b", ("a/b", None)),
        ("hf://a/b.c-d_e", ("a/b.c-d_e", None)),
        ("hf:a/b@v1.0", ("a/b", "v1.0")),
        ("hf://a/b@refs/pr/1", ("a/b", "refs/pr/1")),
    ],
)
def test_addresses(address: str, expected: tuple[str, str | None]) -> None:
    assert hub.parse(address) == expected


def test_an_empty_revision_is_refused() -> None:
    with pytest.raises(ValueError, match="leave out the @"):
        hub.parse("hf:a/b@")


def test_a_push_needs_a_login(
    stand_in: StandIn, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises((ValueError, ConnectionError), match="^someone/painter: .*401") as caught:
        hub.push_to_hub(weights, "someone/painter")
    assert "\n" not in str(caught.value)
    assert stand_in.commits == {}


@pytest.mark.parametrize("address", ["hf:someone/painter", "hf://someone/painter"])
def test_the_address_that_loads_a_model_is_where_it_can_be_pushed(
    address: str, stand_in: StandIn, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def commit(api: object, repository: str, *_: object, **__: object) -> SimpleNamespace:
        made.append(repository)
        return SimpleNamespace(commit_url="page")

    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", commit)
    assert hub.push_to_hub(weights, address) == "page"
    assert made == ["someone/painter"]
    with pytest.raises(ValueError, match="painter@v1' names a revision; weights are put on the"):
        hub.push_to_hub(weights, f"{address}@v1")


def test_what_cannot_be_pushed(stand_in: StandIn, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'painter' names no repository"):
        hub.push_to_hub(weights, "painter")
    with pytest.raises(ValueError, match=r"nothing\.safetensors holds no weights that name"):
        hub.push_to_hub(tmp_path / "nothing.safetensors", "someone/painter")
    save_weights(tmp_path / "nameless.safetensors", read_weights(weights))
    with pytest.raises(ValueError, match=r"nameless\.safetensors holds no weights that name"):
        hub.push_to_hub(tmp_path / "nameless.safetensors", "someone/painter")
    weights.with_suffix(".md").unlink()
    with pytest.raises(ValueError, match=r"painter\.md is missing, the card of painter"):
        hub.push_to_hub(weights, "someone/painter")
    assert stand_in.seen == []


def test_without_the_extra_there_is_a_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'pip install "lexiseg\[hub\]"'):
        hub.download(ADDRESS)


def test_the_environment_chooses_the_hub_and_the_offline_mode(
    there: StandIn, tmp_path: Path
) -> None:
    """In fresh processes, since huggingface_hub reads it once."""
    code = f"from lexiseg import hub; print(hub.download({ADDRESS!r}))"
    environment = {
        **os.environ,
        "HF_ENDPOINT": there.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    found = []
    for offline in ("0", "1"):
        environment["HF_HUB_OFFLINE"] = offline
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
        there.heads.clear()  # so that a second request could not be answered
    assert found[0] == found[1]
    assert str(tmp_path / "home") in found[0]
