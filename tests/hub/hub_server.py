"""A Hub on localhost for the real `huggingface_hub` client: repositories, branches, commits, the LFS protocol.

It is what a client meets with `HF_HUB_DISABLE_XET=1`: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md,
with the Hub's multipart transfer for objects above `chunk` bytes. Each token belongs to one user.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlparse

LARGE = (".safetensors", "tokenizer.json")  # the Hub's .gitattributes knows the first, and sizes the second


class Hub(ThreadingHTTPServer):
    """`repositories`: name → private, branches (name → path → content). `blobs`: the LFS objects that arrived."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, users: dict[str, str], chunk: int = 1 << 20):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.users, self.chunk = users, chunk
        self.repositories: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.sent: Counter[str] = Counter()  # PUTs of each object
        self.broken: set[str] = set()  # objects at whose PUT the connection is dropped
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        return self.repositories[repository]["branches"][branch]

    def add(self, repository: str, private: bool = False, **files: bytes) -> None:
        self.repositories[repository] = {"private": private, "branches": {"main": {".gitattributes": b"", **files}}}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub
    routes: ClassVar = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", "info"),
        ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", "tree"),
        ("POST", r"/api/models/([^/]+/[^/]+)/branch/([^/]+)", "branch"),
        ("POST", r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
        ("POST", r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
        ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/lfs/(\w+)/(\d+)", "put"),
        ("POST", r"/lfs/(\w+)/complete", "complete"),
        ("POST", r"/lfs/verify", "verify"),
        ("GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
    )

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.user = self.server.users.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))
        url = urlparse(self.path)
        self.query = parse_qs(url.query)
        for method, pattern, name in self.routes:
            match = re.fullmatch(pattern, url.path)
            if match and method == self.command.replace("HEAD", "GET"):
                return getattr(self, name)(*(unquote(group) if group else None for group in match.groups()))
        return self.answer(404, {"error": f"no such route: {self.command} {self.path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_one

    def answer(self, status: int, content: Any = b"", **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Length": str(len(data)), "X-Request-Id": "0"} | headers
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self) -> Any:
        return json.loads(self.body)

    # ---- who may do what

    def may(self, repository: str, write: bool) -> bool:
        """Whether this user may; else the answer has been given."""
        found, owner = self.server.repositories.get(repository), repository.split("/")[0]
        if self.user is None and write:
            self.answer(401, {"error": "Invalid username or password."})
        elif found is None or (found["private"] and self.user != owner):
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        elif write and self.user != owner:
            self.answer(403, {"error": f"Forbidden: you must have write access to {owner}"})
        else:
            return True
        return False

    def on_branch(self, repository: str, revision: str | None, write: bool = False) -> dict[str, bytes] | None:
        if not self.may(repository, write):
            return None
        branches = self.server.repositories[repository]["branches"]
        shas = {_sha(files): files for files in branches.values()}
        found = branches.get(revision or "main", shas.get(revision or ""))
        if found is None:
            self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return found

    # ---- the API

    def create(self) -> None:
        wanted = self.json()
        if self.user is None:
            return self.answer(401, {"error": "Invalid username or password."})
        owner = wanted.get("organization") or self.user
        repository = f"{owner}/{wanted['name']}"
        url = f"{self.server.url}/{repository}"
        if owner != self.user:
            message = f'You don\'t have the rights to create a model under the namespace "{owner}"'
            return self.answer(403, {"error": message})
        if repository in self.server.repositories:
            return self.answer(409, {"error": "You already created this model repo", "url": url})
        self.server.add(repository, wanted.get("visibility") == "private")
        return self.answer(200, {"url": url})

    def validate(self) -> None:
        said = re.search(r"^license: (.*)$", self.json()["content"], re.MULTILINE)
        errors = [{"message": '"license" must be one of [...]'}] if said and said[1] == "none-such" else []
        self.answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def info(self, repository: str, revision: str | None) -> None:
        files = self.on_branch(repository, revision)
        if files is not None:
            private = self.server.repositories[repository]["private"]
            siblings = [{"rfilename": path} for path in files]
            self.answer(200, {"id": repository, "sha": _sha(files), "private": private, "siblings": siblings})

    def tree(self, repository: str, revision: str) -> None:
        files = self.on_branch(repository, revision)
        if files is not None:
            self.answer(200, [{"type": "file", "path": p, "size": len(f), "oid": _oid(p, f)} for p, f in files.items()])

    def branch(self, repository: str, name: str) -> None:
        main = self.on_branch(repository, self.json().get("startingPoint"), write=True)
        if main is None:
            return None
        branches = self.server.repositories[repository]["branches"]
        if name in branches:
            return self.answer(409, {"error": f"Reference already exists: {name}"})
        branches[name] = dict(main)
        return self.answer(200, {})

    def preupload(self, repository: str, revision: str) -> None:
        there = self.on_branch(repository, revision, write=True)
        if there is not None:
            self.answer(200, {"files": [self.mode(file["path"], there) for file in self.json()["files"]]})

    def mode(self, path: str, there: dict[str, bytes]) -> dict[str, Any]:
        known = {"oid": _oid(path, there[path])} if path in there else {}
        return {"path": path, "uploadMode": "lfs" if path.endswith(LARGE) else "regular", "shouldIgnore": False} | known

    def commit(self, repository: str, revision: str) -> None:
        files = self.on_branch(repository, revision, write=True)
        if files is None:
            return None
        new = dict(files)
        for key, value in ((line["key"], line["value"]) for line in map(json.loads, self.body.splitlines())):
            if key == "file":
                new[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.server.blobs:
                    return self.answer(400, {"error": f"LFS pointer to a file that does not exist: {value['path']}"})
                new[value["path"]] = self.server.blobs[value["oid"]]
            elif key == "deletedFile":
                del new[value["path"]]
        files.clear()
        files.update(new)
        url = f"{self.server.url}/{repository}/commit/{_sha(files)}"
        return self.answer(200, {"success": True, "commitOid": _sha(files), "commitUrl": url})

    # ---- large files

    def batch(self, repository: str) -> None:
        if not self.may(repository, write=True):
            return
        objects = []
        for wanted in self.json()["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            at, chunk = f"{self.server.url}/lfs/{oid}", self.server.chunk
            upload: dict[str, Any] = {"href": f"{at}/1"}
            if size > chunk:
                addresses = {str(n + 1): f"{at}/{n + 1}" for n in range(-(-size // chunk))}
                upload = {"href": f"{at}/complete", "header": {"chunk_size": str(chunk), **addresses}}
            actions = {"upload": upload, "verify": {"href": f"{self.server.url}/lfs/verify"}}
            objects.append(wanted | ({} if oid in self.server.blobs else {"actions": actions}))
        self.answer(200, {"transfer": "basic", "objects": objects})

    def put(self, oid: str, part: str) -> None:
        self.server.sent[oid] += 1
        if oid in self.server.broken:
            self.close_connection = True
            return self.connection.close()
        self.server.parts[oid, int(part)] = self.body
        if hashlib.sha256(self.body).hexdigest() == oid:
            self.server.blobs[oid] = self.body
        return self.answer(200, ETag=f'"{part}"')

    def complete(self, oid: str) -> None:
        whole = b"".join(self.server.parts[oid, part["partNumber"]] for part in self.json()["parts"])
        if hashlib.sha256(whole).hexdigest() != oid:
            return self.answer(400, {"error": "the parts are not the object"})
        self.server.blobs[oid] = whole
        return self.answer(200, {})

    def verify(self) -> None:
        wanted = self.json()
        whole = len(self.server.blobs.get(wanted["oid"], b"")) == wanted["size"]
        self.answer(200 if whole else 404, {"error": "no such object"})

    # ---- and back

    def resolve(self, repository: str, revision: str, path: str) -> None:
        files = self.on_branch(repository, revision)
        if files is None:
            return None
        if path not in files:
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        oid = f'"{_oid(path, files[path])}"'
        linked = {"X-Repo-Commit": _sha(files), "ETag": oid, "X-Linked-Etag": oid}
        return self.answer(200, files[path], **linked, **{"X-Linked-Size": str(len(files[path]))})


def _oid(path: str, content: bytes) -> str:
    """Return the Hub's id of a content: its SHA-256 in LFS, otherwise its git hash."""
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def _sha(files: dict[str, bytes]) -> str:
    return hashlib.sha1(
        repr(sorted((path, _oid(path, content)) for path, content in files.items())).encode()
    ).hexdigest()
