"""History: every edit that was ever made on a segmentation, in a file that a kill cannot harm.

An SQLite file beside the segmentation, with a write-ahead log and one transaction an edit. Edits form a tree: undo
moves the head to the parent, redo to the child that was last left, and an edit after an undo starts a branch. Nothing
is ever deleted.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Self

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.proofread.edits import read_edit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from napari_tokenunify.proofread.edits import Edit

FORMAT: Final = "1"
PATIENCE_S: Final = 3.0  # how long to wait for another program that is writing
_ROOT: Final = ""  # the name of the state before the first edit
_SCHEMA: Final = (
    "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE edits (number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, parent TEXT, "
    "redo TEXT, record TEXT NOT NULL)",
    "CREATE INDEX children ON edits (parent)",
    f"INSERT INTO edits (number, uuid, record) VALUES (0, '{_ROOT}', '')",
)
_PATH: Final = """
    WITH RECURSIVE path(uuid, depth) AS (
        SELECT :head, 0
        UNION ALL SELECT edits.parent, depth + 1 FROM path JOIN edits USING (uuid) WHERE edits.parent IS NOT NULL
    )"""
_AHEAD: Final = """
    WITH RECURSIVE ahead(uuid, depth) AS (
        SELECT redo, 0 FROM edits WHERE uuid = :head
        UNION ALL SELECT edits.redo, depth + 1 FROM ahead JOIN edits USING (uuid)
    )"""


@dataclass(frozen=True)
class Branch:
    """One line of edits, from the first to one that nothing follows.

    Attributes
    ----------
    tip : str
        Its last edit.
    edits : int
        How many lead there.
    is_current : bool
        Whether the head is on it.
    """

    tip: str
    edits: int
    is_current: bool


class History:
    """The edits of one segmentation; may be used by several threads, and by one program at a time.

    Parameters
    ----------
    path : Path
        The file; made if missing, unless `read_only`.
    fragments_hash : str
        Names the fragments that the edits are about.
    read_only : bool
        Change nothing, not even the file.
    patience_s : float
        Seconds to wait while another program writes.

    Raises
    ------
    ProofreadError
        If the file is one of other fragments, of a newer version, locked or damaged, or cannot be made.
    """

    def __init__(
        self, path: Path, fragments_hash: str, *, read_only: bool = False, patience_s: float = PATIENCE_S
    ) -> None:
        self.path, self.fragments_hash = path, fragments_hash
        self._lock = RLock()
        self._db = _connect(path, patience_s, read_only=read_only)
        try:
            with _told(path):
                if not read_only:
                    self._prepare()
                about = dict(self._db.execute("SELECT key, value FROM about"))
            _check(path, about, fragments_hash)
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        """Return itself; the file is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; everything is in it already."""
        with suppress(sqlite3.Error):
            self._db.close()

    @property
    def head(self) -> str | None:
        """The last edit that is in force; None before the first."""
        return self._about("head") or None

    def __len__(self) -> int:
        """Return how many edits there are, on all branches."""
        return int(self._one("SELECT COUNT(*) FROM edits WHERE number > 0")[0])

    def __getitem__(self, uuid: str) -> Edit:
        """Return an edit by its name."""
        rows = self._all("SELECT record FROM edits WHERE uuid = ? AND number > 0", uuid)
        if not rows:
            raise ProofreadError(f"{self.path}: there is no edit {uuid}; `proofread log` lists them.")
        return read_edit(rows[0][0], self.path)

    def __contains__(self, uuid: str) -> bool:
        """Whether there is an edit of this name."""
        return bool(self._all("SELECT 1 FROM edits WHERE uuid = ? AND number > 0", uuid))

    def path_to(self, uuid: str | None) -> list[str]:
        """Return the names of the edits that lead to one, from the first."""
        query = f"{_PATH} SELECT uuid FROM path ORDER BY depth DESC"
        return [row[0] for row in self._all(query, head=uuid or _ROOT)][1:]

    def ahead_of(self, uuid: str | None) -> list[str]:
        """Return the names of the edits that `redo` would make after one, the next first."""
        query = f"{_AHEAD} SELECT uuid FROM ahead WHERE uuid IS NOT NULL ORDER BY depth"
        return [row[0] for row in self._all(query, head=uuid or _ROOT)]

    def active(self) -> list[Edit]:
        """Return the edits that are in force, from the first to the head."""
        query = f"{_PATH} SELECT record FROM path JOIN edits USING (uuid) WHERE number > 0 ORDER BY depth DESC"
        return [read_edit(row[0], self.path) for row in self._all(query, head=self.head or _ROOT)]

    def all_edits(self) -> list[Edit]:
        """Return all edits of all branches, in the order of their making."""
        return [read_edit(row[0], self.path) for row in self._all("SELECT record FROM edits WHERE number > 0")]

    def branches(self) -> list[Branch]:
        """Return all lines of edits, in the order in which they were last added to."""
        rows = self._all(
            "SELECT uuid FROM edits WHERE number > 0 AND uuid NOT IN (SELECT parent FROM edits WHERE number > 0) "
            "ORDER BY number"
        )
        head = self.head
        paths = [self.path_to(row[0]) for row in rows]
        return [Branch(path[-1], len(path), head is None or head in path) for path in paths]

    @property
    def next_fragment(self) -> int:
        """The smallest id that no part of a divided fragment has on any branch, as far as this file knows."""
        return int(self._about("next_fragment") or 0)

    def append(self, edit: Edit) -> None:
        """Keep an edit, and move the head to it; both or neither.

        Raises
        ------
        ProofreadError
            If it does not follow the head, e.g. as another program has added one, or it cannot be saved.
        """
        with self._changing() as db:
            head = self.head
            if edit.parent != head:
                raise ProofreadError(
                    f"{self.path}: the segments were edited elsewhere in the meantime; open them again, and repeat "
                    "this edit."
                )
            _insert(db, edit)
            db.execute("UPDATE edits SET redo = ? WHERE uuid = ?", (edit.uuid, head or _ROOT))
            self._set_head(db, edit.uuid)

    def undo(self) -> Edit | None:
        """Move the head to its parent and return the edit that is no more in force; None if there is none."""
        with self._changing() as db:
            head = self.head
            if head is None:
                return None
            edit = self[head]
            self._leave(db, head, edit.parent)
            self._set_head(db, edit.parent)
        return edit

    def redo(self) -> Edit | None:
        """Move the head to the child that was left last and return it; None if there is none."""
        with self._changing() as db:
            uuid = self._one("SELECT redo FROM edits WHERE uuid = ?", self.head or _ROOT)[0]
            if uuid is None:
                return None
            edit = self[uuid]
            self._set_head(db, uuid)
        return edit

    def go_to(self, uuid: str | None) -> None:
        """Move the head to any edit, or with None to before the first.

        Raises
        ------
        ProofreadError
            If there is no such edit, or the head cannot be moved.
        """
        if uuid is not None and uuid not in self:
            raise ProofreadError(f"{self.path}: there is no edit {uuid}; `proofread log` lists them.")
        with self._changing() as db:
            path = [_ROOT, *self.path_to(self.head)]
            for parent, child in pairwise(path):
                self._leave(db, child, parent)
            self._set_head(db, uuid)

    def restore(self, edits: Iterable[Edit], head: str | None) -> None:
        """Take over whole branches into a history that is empty.

        Raises
        ------
        ProofreadError
            If it is not empty, edits hang together badly, or they cannot be saved.
        """
        with self._changing() as db:
            if len(self):
                raise ProofreadError(f"{self.path}: holds edits already; join the two logs instead (proofread join).")
            known = {_ROOT}
            for edit in edits:
                if (edit.parent or _ROOT) not in known or edit.uuid in known:
                    raise ProofreadError(f"The log is damaged: it lacks the edit before {edit.uuid}, or has it twice.")
                known.add(edit.uuid)
                _insert(db, edit)
                db.execute("UPDATE edits SET redo = ? WHERE uuid = ?", (edit.uuid, edit.parent or _ROOT))
            if (head or _ROOT) not in known:
                raise ProofreadError(f"The log is damaged: it lacks its head {head}.")
            self._set_head(db, head)

    def _prepare(self) -> None:
        """Make the tables of a new file; one transaction, so that a kill leaves an empty file at most."""
        if self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0] not in {"wal", "memory"}:
            raise ProofreadError(f"{self.path}: this disk cannot keep edits safely; put the segmentation elsewhere.")
        self._db.execute("PRAGMA synchronous = FULL")
        if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
            return
        with self._changing() as db:
            if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
                return  # another program was faster
            for statement in _SCHEMA:
                db.execute(statement)
            facts = {"format": FORMAT, "fragments_hash": self.fragments_hash, "head": _ROOT}
            db.executemany("INSERT INTO about VALUES (?, ?)", facts.items())

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Change the file, all or nothing."""
        with self._lock, _told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                raise

    def _leave(self, db: sqlite3.Connection, child: str, parent: str | None) -> None:
        db.execute("UPDATE edits SET redo = ? WHERE uuid = ?", (child, parent or _ROOT))

    def _set_head(self, db: sqlite3.Connection, uuid: str | None) -> None:
        db.execute("UPDATE about SET value = ? WHERE key = 'head'", (uuid or _ROOT,))

    def _about(self, key: str) -> str | None:
        rows = self._all("SELECT value FROM about WHERE key = ?", key)
        return rows[0][0] if rows else None

    def _one(self, query: str, *values: Any) -> tuple[Any, ...]:
        return self._all(query, *values)[0]

    def _all(self, query: str, *values: Any, **named: Any) -> list[tuple[Any, ...]]:
        with self._lock, _told(self.path):
            return self._db.execute(query, named or values).fetchall()


def _insert(db: sqlite3.Connection, edit: Edit) -> None:
    db.execute(
        "INSERT INTO edits (uuid, parent, record) VALUES (?, ?, ?)",
        (edit.uuid, edit.parent or _ROOT, edit.model_dump_json(exclude_defaults=True)),
    )
    if edit.division is not None:
        free = max(edit.division.parts) + 1
        db.execute(
            "INSERT INTO about VALUES ('next_fragment', ?) "
            "ON CONFLICT (key) DO UPDATE SET value = MAX(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER))",
            (str(free),),
        )


def _connect(path: Path, patience_s: float, *, read_only: bool) -> sqlite3.Connection:
    """Open the file; a folder that cannot be written to has to be told to SQLite."""
    address = path.absolute().as_uri()
    with _told(path):
        if not read_only:
            return _open(address, patience_s)
        try:
            db = _open(f"{address}?mode=ro", patience_s)
            db.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_CANTOPEN or not path.exists():
                raise
            db = _open(f"{address}?immutable=1", patience_s)
        return db


def _open(address: str, patience_s: float) -> sqlite3.Connection:
    return sqlite3.connect(address, timeout=patience_s, isolation_level=None, check_same_thread=False, uri=True)


def _check(path: Path, about: dict[str, str], fragments_hash: str) -> None:
    if about.get("format") != FORMAT:
        raise ProofreadError(f"{path}: was made by a newer version; update napari-tokenunify.")
    if about.get("fragments_hash") != fragments_hash:
        raise ProofreadError(
            f"{path}: holds edits of other fragments; open it with the segmentation that it was made on, or carry the "
            "edits over (proofread carry)."
        )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite says into one sentence."""
    try:
        yield
    except sqlite3.Error as error:
        raise ProofreadError(f"{path}: {_SENTENCES.get(_code(error), f'cannot be used ({error}).')}") from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


_BUSY: Final = "another program is writing edits there; wait until it is done, and try again. Nothing was lost."
_FULL: Final = "this edit cannot be saved, the disk is full; make room and repeat it. All edits before it are safe."
_DAMAGED: Final = "is damaged, or no file of edits; put back a copy of it, or move it away. Nothing was changed."
_CLOSED: Final = "cannot be opened for writing; check the permissions of the file and its folder."
_SENTENCES: Final = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _FULL.replace("the disk is full", "the disk is full or does not answer"),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_READONLY: _CLOSED,
    sqlite3.SQLITE_CANTOPEN: _CLOSED,
    sqlite3.SQLITE_PERM: _CLOSED,
}
