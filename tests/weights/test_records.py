import hashlib
import io
import urllib.error

import pytest
import torch

from lexiseg.weights import Weights, fetch, read_weights, save_weights


def record(content: bytes, **changes) -> Weights:
    fields = {
        "url": "https://example.org/files/w.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "licence": "MIT",
        "origin": "https://example.org",
        "paper": "none",
    }
    return Weights(**(fields | changes))


@pytest.fixture
def content(tmp_path) -> bytes:
    save_weights(tmp_path / "source", {"a": torch.ones(2)})
    return (tmp_path / "source").read_bytes()


@pytest.fixture
def online(monkeypatch, content) -> list[str]:
    calls: list[str] = []

    def answer(url, timeout):
        calls.append(url)
        return io.BytesIO(content)

    monkeypatch.setattr("urllib.request.urlopen", answer)
    return calls


def test_a_download_is_checked_kept_and_used_again(tmp_path, monkeypatch, online, content):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    assert torch.equal(read_weights(record(content))["a"], torch.ones(2))
    assert fetch(record(content)).read_bytes() == content
    assert len(online) == 1


def test_a_wrong_checksum_keeps_nothing(tmp_path, online, content):
    with pytest.raises(ValueError, match="SHA-256 .* but 00 was published; it was not kept"):
        fetch(record(content, sha256="00"), cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_without_a_network_the_message_says_where_the_file_goes(tmp_path, monkeypatch, content):
    def fail(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(
        ConnectionError, match="no route to host.*; without a network, put the file"
    ):
        fetch(record(content), cache=tmp_path)
    assert not [path for path in tmp_path.rglob("*w.safetensors*") if path.is_file()]


@pytest.mark.parametrize("url", [None, "file:///etc/passwd", "http://example.org/w"])
def test_other_addresses_are_left_to_the_user(tmp_path, url, content):
    with pytest.raises(
        ValueError, match="take them from https://example.org and pass the file's path"
    ):
        fetch(record(content, url=url), cache=tmp_path)


def test_bundled_weights_need_no_network(content):
    bundled = record(content, url=None, asset="clip_bpe/merges.txt.gz")
    assert fetch(bundled).is_file()
