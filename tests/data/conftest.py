"""Fixtures for the readers of stores: a web server, and a check that a reader leaves files as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class _Files(SimpleHTTPRequestHandler):
    """Serves files, lists no folders, and writes no log."""

    def log_message(self, *_: object) -> None:
        pass

    def list_directory(self, path: str | object) -> None:
        self.send_error(403)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server for `tmp_path`."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=tmp_path)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def untouched() -> Callable[[Path], AbstractContextManager[None]]:
    """A context in which a folder is read-only, and after which all in it must be as before."""

    def state(folder: Path) -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}

    @contextmanager
    def check(folder: Path) -> Iterator[None]:
        before = state(folder)
        folders = [path for path in before if path.is_dir()]
        for path in folders:
            path.chmod(0o555)
        try:
            yield
        finally:
            for path in folders:
                path.chmod(0o755)
        assert state(folder) == before

    return check
