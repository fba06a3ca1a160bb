"""A stand-in for the Hugging Face Hub: the few routes that pushing and loading use, on this machine."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_right"


@dataclass
class Repository:
    """Files of each revision, by its checksum; the newest is ``main``."""

    private: bool
    gated: bool = False
    revisions: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def revision(self, name: str) -> str | None:
        newest = next(reversed(self.revisions), None)
        return newest if name == "main" else name if name in self.revisions else None


class Hub(BaseHTTPRequestHandler):
    repositories: dict[str, Repository]

    def log_message(self, *_):
        pass

    def say(self, status: int, content: object = "", **headers: str):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_POST(self):
        lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
        first = json.loads(lines[0])
        if self.path == "/api/validate-yaml":
            self.say(200, {"errors": [], "warnings": []})
        elif not self.known:
            self.say(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            name = f"{first['organization']}/{first['name']}"
            if first["organization"] != "me":
                self.say(403, {"error": f"You don't have the rights to create a model under {first['organization']}"})
                return
            there = name in self.repositories
            self.repositories.setdefault(name, Repository(first.get("visibility") == "private"))
            self.say(409 if there else 200, {"url": f"http://{self.headers['Host']}/{name}"})
        elif "/preupload/" in self.path:
            modes = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in first["files"]]
            self.say(200, {"files": modes})
        elif match := re.match(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            repository = self.repositories[match[1]]
            files = dict(repository.revisions.get(repository.revision("main"), {}))
            for line in map(json.loads, lines[1:]):
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            sha = hashlib.sha1(b"".join([str(len(repository.revisions)).encode(), *files.values()])).hexdigest()
            repository.revisions[sha] = files
            self.say(200, {"commitUrl": f"http://{self.headers['Host']}/{match[1]}/commit/{sha}", "commitOid": sha})

    def do_GET(self):
        path = unquote(self.path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            there = self.repositories.get(match[1])
            found = {"id": match[1], "private": there.private} if there else {}
            self.say(200 if there else 404, found, **({} if there else {"X_Error_Code": "RepoNotFound"}))
            return
        if not (match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)):
            self.say(404)
            return
        name, wanted, file = match.groups()
        repository = self.repositories.get(name)
        if repository is None or (repository.private and not self.known):
            self.say(401 if not self.known else 404, X_Error_Code="RepoNotFound")
        elif repository.gated:
            self.say(403, X_Error_Code="GatedRepo")
        elif (sha := repository.revision(wanted)) is None:
            self.say(404, X_Error_Code="RevisionNotFound")
        elif file not in repository.revisions[sha]:
            self.say(404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        else:
            content = repository.revisions[sha][file]
            self.say(200, content, X_Repo_Commit=sha, ETag=f'"{hashlib.sha1(content).hexdigest()}"')

    do_HEAD = do_GET


@contextmanager
def serving(repositories: dict[str, Repository]) -> Iterator[str]:
    """The address of a hub with these repositories, which it adds to."""
    handler = type("Serving", (Hub,), {"repositories": repositories})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
