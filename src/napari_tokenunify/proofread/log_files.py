"""The log of all edits as a JSON file: for a colleague, for another copy of the segmentation, for the record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.project import whole_file
from napari_tokenunify.proofread.edits import read_edit

if TYPE_CHECKING:
    from pathlib import Path

    from napari_tokenunify.proofread.edits import Edit
    from napari_tokenunify.proofread.history import History

KIND: Final = "edits"
FORMAT: Final = 1


@dataclass(frozen=True)
class Log:
    """Edits as they lie in a file.

    Attributes
    ----------
    fragments_hash : str
        Names the fragments that they are about.
    head : str or None
        The last one in force.
    edits : tuple of Edit
        Of all branches, each after its parent.
    """

    fragments_hash: str
    head: str | None
    edits: tuple[Edit, ...]

    @classmethod
    def of(cls, history: History) -> Log:
        """Take all that a history holds."""
        return cls(history.fragments_hash, history.head, tuple(history.all_edits()))

    @property
    def in_force(self) -> list[Edit]:
        """The edits that lead to the head, from the first."""
        by_name = {edit.uuid: edit for edit in self.edits}
        path: list[Edit] = []
        name = self.head
        while name is not None:
            path.append(by_name[name])
            name = by_name[name].parent
        return path[::-1]


def write_log(history: History, path: Path) -> None:
    """Write all edits of a history, the whole file or nothing.

    Raises
    ------
    ProofreadError
        If it cannot be written.
    """
    log = Log.of(history)
    content: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "fragments_hash": log.fragments_hash,
        "head": log.head,
        "edits": [edit.model_dump(mode="json", exclude_defaults=True) for edit in log.edits],
    }
    with whole_file(path, ProofreadError) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_log(path: Path) -> Log:
    """Read what `write_log` wrote.

    Raises
    ------
    ProofreadError
        If it is not there, damaged, or of a newer version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProofreadError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise ProofreadError(f"{path}: is no log of edits, or is damaged; write it again (proofread log).") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ProofreadError(f"{path}: is no log of edits; give a file that `proofread log --out` has written.")
    if content.get("format") != FORMAT:
        raise ProofreadError(f"{path}: was made by a newer version; update napari-tokenunify.")
    try:
        edits = tuple(read_edit(json.dumps(record), path) for record in content["edits"])
        log = Log(str(content["fragments_hash"]), content["head"], edits)
        _ = log.in_force
    except (KeyError, TypeError) as error:
        raise ProofreadError(f"{path}: is damaged, it lacks {error}; write it again (proofread log).") from error
    return log


def restore_log(history: History, log: Log) -> None:
    """Take a whole log over into a history that is empty: all branches, and the head.

    Raises
    ------
    ProofreadError
        If the log is of other fragments, the history is not empty, or it cannot be written.
    """
    refuse_other_fragments(history, log)
    history.restore(log.edits, log.head)


def refuse_other_fragments(history: History, log: Log) -> None:
    """Refuse a log of other fragments.

    Raises
    ------
    ProofreadError
        If it is one.
    """
    if log.fragments_hash != history.fragments_hash:
        raise ProofreadError(
            "The log is of other fragments: where these are of the same volume, carry the edits over by their points "
            "(proofread carry)."
        )
