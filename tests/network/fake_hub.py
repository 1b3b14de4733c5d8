"""A Hugging Face hub on this machine, as far as the tests ask it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORY = "cyd0806/TokenUnify"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A Hugging Face hub on this machine, as far as it is asked: one repository, its files, downloads in parts."""

    def __init__(self):
        self.files = {}
        self.licence = "cc-by-nc-4.0"
        self.breaks_after = None  # bytes of a download, after which the connection is cut
        self.takes_ranges = True
        self.changed = False
        self.sha256 = None  # said of every file, instead of its own
        self.status, self.error_code = 200, None
        self.asked = []  # byte ranges
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self):
        path = self.path.partition("?")[0]
        if self.hub.status != 200:
            self._answer(self.hub.status, b"", {"X-Error-Code": self.hub.error_code or ""})
        elif path == f"/api/models/{REPOSITORY}":
            self._answer(200, json.dumps(self._listing()).encode())
        elif path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/"):
            self._send(self.hub.files[path.partition(f"{COMMIT}/")[2]])
        else:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _listing(self):
        files = [
            {"rfilename": name, "size": len(content), "blobId": "b", "lfs": self._lfs(content)}
            for name, content in self.hub.files.items()
        ]
        readme = {"rfilename": "README.md", "size": 3, "blobId": "c"}
        tags = [f"license:{self.hub.licence}"] if self.hub.licence else []
        return {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "tags": tags, "siblings": [readme, *files]}

    def _lfs(self, content):
        return {
            "sha256": self.hub.sha256 or hashlib.sha256(content).hexdigest(),
            "size": len(content),
            "pointerSize": 134,
        }

    def _send(self, content):
        hub = self.hub
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if hub.takes_ranges else 0
        hub.asked.append(start)
        content = content[::-1] if hub.changed else content
        self.send_response(206 if hub.takes_ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if hub.breaks_after is None else start + hub.breaks_after
        self.wfile.write(content[start:end])
        self.close_connection = True

    def _answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
