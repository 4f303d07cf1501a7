"""A stand-in of the Hugging Face hub on loopback: as much of it as one file up and down needs."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_tests"


@dataclass
class StandIn:
    """Repositories in memory.

    Attributes:
        address: for HF_ENDPOINT.
        commits: files by repository and commit.
        heads: commit by repository and branch.
        private: repositories that were made private.
        fault: what goes wrong with a download: "flipped" (a byte differs), "short" (a whole answer
            of half the file) or "cut" (the line breaks in the middle, and again and again).
        seen: "METHOD path" of each request.
    """

    address: str = ""
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    heads: dict[str, dict[str, str]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    stored: dict[str, bytes] = field(default_factory=dict)
    fault: str = ""
    seen: list[str] = field(default_factory=list)

    def commit(self, repository: str, branch: str, files: dict[str, bytes]) -> str:
        parent = self.heads.get(repository, {}).get(branch, "")
        before = self.commits.get(repository, {}).get(parent, {})
        digest = hashlib.sha1(repr((parent, sorted(files.items()))).encode()).hexdigest()
        self.commits.setdefault(repository, {})[digest] = {**before, **files}
        self.heads.setdefault(repository, {})[branch] = digest
        return digest


@contextmanager
def hub_stand_in() -> Iterator[StandIn]:
    hub = StandIn()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: StandIn

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:  # noqa: N802 (http.server's name)
        self._resolve()

    def do_GET(self) -> None:  # noqa: N802
        self._resolve()

    def do_PUT(self) -> None:  # noqa: N802
        content = self._body()
        self.hub.stored[hashlib.sha256(content).hexdigest()] = content
        self._answer(200)

    def do_POST(self) -> None:  # noqa: N802
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
            return
        path = self.path
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(.+/.+)/preupload/(.+)", path):
            self._answer(200, {"files": [_mode(file) for file in json.loads(body)["files"]]})
        elif match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            self._answer(200, {"transfer": "basic", "objects": self._upload(json.loads(body))})
        elif match := re.fullmatch(r"/api/models/(.+/.+)/commit/(.+)", path):
            self._commit(match[1], match[2], body)
        else:
            self._answer(404)

    def _create(self, wanted: dict[str, Any]) -> None:
        repository = f"{wanted['organization']}/{wanted['name']}"
        if repository in self.hub.heads:
            self._answer(409, {"url": f"{self.hub.address}/{repository}"})
            return
        self.hub.commit(repository, "main", {})
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private.add(repository)
        self._answer(200, {"url": f"{self.hub.address}/{repository}"})

    def _upload(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {**each, "actions": {"upload": {"href": f"{self.hub.address}/put/{each['oid']}"}}}
            for each in wanted["objects"]
        ]

    def _commit(self, repository: str, branch: str, body: bytes) -> None:
        files = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        digest = self.hub.commit(repository, branch, files)
        url = f"{self.hub.address}/{repository}/commit/{digest}"
        self._answer(200, {"commitUrl": url, "commitOid": digest})

    def _resolve(self) -> None:
        self.hub.seen.append(f"{self.command} {self.path}")
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if not match or match[1] not in self.hub.commits:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        repository, revision, file = match.groups()
        digest = self.hub.heads[repository].get(revision, revision)
        if digest not in self.hub.commits[repository]:
            self._answer(404, {"error": "no"}, {"X-Error-Code": "RevisionNotFound"})
            return
        facts = {"X-Repo-Commit": digest}
        files = self.hub.commits[repository][digest]
        if file not in files:
            self._answer(404, {"error": "no"}, {"X-Error-Code": "EntryNotFound", **facts})
            return
        content = files[file]
        facts["ETag"] = facts["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        facts["X-Linked-Size"] = str(len(content))
        if self.command == "HEAD":
            self._send(200, facts, content)
        elif self.hub.fault == "cut" and "Range" in self.headers:
            self.close_connection = True  # not even an answer
        elif match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start, size = int(match[1]), len(content)
            facts["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            self._send(206, facts, content[start:])
        else:
            self._send(200, facts, content)

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        fault = self.hub.fault if self.command == "GET" else ""
        if fault == "flipped":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "short":
            content = content[: len(content) // 2]
        self._write(status, headers, content, len(content) // 2 if fault == "cut" else None)

    def _answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self._write(status, {**kind, **(headers or {})}, json.dumps(body or {}).encode())

    def _write(
        self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None
    ) -> None:
        """An answer, of which only the first ``sent`` bytes leave."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])

    def _body(self) -> bytes:
        self.hub.seen.append(f"{self.command} {self.path}")
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    large = file["path"].endswith(".safetensors")
    return {
        "path": file["path"],
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": False,
    }
