from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.errors import ProofreadError
from napari_tokenunify.proofread import History
from napari_tokenunify.proofread.edits import new_edit
from napari_tokenunify.segment.segmentation import EDITS

KILLS = int(os.environ.get("NTU_KILLS", "40"))
ROOT = Path(__file__).parents[2]


def add(history: History, text: str) -> str:
    edit = new_edit("comment", "Ada", history.head, text=text)
    history.append(edit)
    return edit.uuid


@pytest.fixture
def history(tmp_path: Path):
    with History(tmp_path / EDITS, "hash") as found:
        yield found


def test_undo_moves_to_the_parent_and_redo_to_the_child_that_was_left(history: History):
    a, b = add(history, "a"), add(history, "b")
    assert history.undo().uuid == b
    c = add(history, "c")
    assert [edit.text for edit in history.active()] == ["a", "c"]
    history.undo()
    assert history.redo().uuid == c
    history.go_to(b)
    assert [edit.text for edit in history.active()] == ["a", "b"]
    history.undo()
    assert history.redo().uuid == b
    assert (history.head, history.redo(), len(history)) == (b, None, 3)
    assert {(branch.tip, branch.edits, branch.is_current) for branch in history.branches()} == {
        (b, 2, True),
        (c, 2, False),
    }
    history.go_to(None)
    assert (history.head, history.active(), history.undo()) == (None, [], None)
    assert history.redo().uuid == a
    assert history.redo().uuid == b


def test_going_back_in_time_is_redone_step_by_step(history: History):
    names = [add(history, str(number)) for number in range(5)]
    history.go_to(names[1])
    assert history.path_to(names[3]) == names[:4]
    assert [history.redo().uuid for _ in range(3)] == names[2:]


@pytest.mark.parametrize("seed", range(5))
def test_what_lies_ahead_is_what_redo_makes(history: History, seed: int):
    chance = np.random.default_rng(seed)
    for number in range(60):
        step = chance.integers(4)
        if step == 0:
            add(history, str(number))
        elif step == 1:
            history.undo()
        elif step == 2:
            history.redo()
        else:
            history.go_to(chance.choice([edit.uuid for edit in history.all_edits()] or [None]))
    here = history.head
    ahead = history.ahead_of(here)
    made = iter(lambda: history.redo(), None)
    assert ahead == [edit.uuid for edit in made]
    if here is not None:
        history.go_to(here)
        assert history.ahead_of(here) == ahead


def test_a_history_is_as_it_was_when_it_is_opened_again(history: History, tmp_path: Path):
    add(history, "a")
    edit = history.active()[0]
    history.close()
    with History(tmp_path / EDITS, "hash") as again:
        assert again.active() == [edit]
        assert again[edit.uuid] == edit
        assert "none" not in again
        with pytest.raises(ProofreadError, match="there is no edit none"):
            again.go_to("none")


def test_a_history_can_be_read_where_nothing_can_be_written(history: History, tmp_path: Path):
    add(history, "a")
    history.close()
    (tmp_path / EDITS).chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with History(tmp_path / EDITS, "hash", read_only=True) as again:
            assert again.active()[0].text == "a"
    finally:
        tmp_path.chmod(0o755)


def test_a_locked_file_is_one_sentence_and_nothing_is_lost(history: History, tmp_path: Path):
    add(history, "a")
    with History(tmp_path / EDITS, "hash", patience_s=0.05) as second:
        other = sqlite3.connect(tmp_path / EDITS, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ProofreadError, match="another program is writing edits there; wait") as caught:
            add(second, "b")
        assert "\n" not in str(caught.value)
        other.execute("ROLLBACK")
        other.close()
        add(second, "b")
        assert [edit.text for edit in second.active()] == ["a", "b"]


@pytest.mark.parametrize("damage", ["no database", "cut off"])
def test_a_damaged_file_is_one_sentence_and_stays(history: History, tmp_path: Path, damage: str):
    path = tmp_path / EDITS
    for number in range(50):
        add(history, "long " * 100 + str(number))
    history.close()
    content = b"no database at all" * 500 if damage == "no database" else path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with (
        pytest.raises(ProofreadError, match="is damaged, or no file of edits"),
        History(path, "hash") as damaged,
    ):
        damaged.active()
    assert path.read_bytes() == content


def test_a_file_of_a_newer_version_is_said(history: History, tmp_path: Path):
    history.close()
    other = sqlite3.connect(tmp_path / EDITS)
    with other:
        other.execute("UPDATE about SET value = '2' WHERE key = 'format'")
    other.close()
    with pytest.raises(ProofreadError, match="made by a newer version"):
        History(tmp_path / EDITS, "hash")


def test_a_full_disk_is_one_sentence_and_earlier_edits_are_safe(tmp_path: Path):
    """In another process, whose files may not grow; -B: or half-written bytecode stays behind for all."""
    resource = pytest.importorskip("resource")
    with History(tmp_path / EDITS, "hash") as history:
        add(history, "safe")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from napari_tokenunify.errors import ProofreadError\n"
        "from napari_tokenunify.proofread import History\n"
        "from napari_tokenunify.proofread.edits import new_edit\n"
        "with History(Path(sys.argv[1]), 'hash') as history:\n"
        "    head = history.head\n"
        "    try:\n"
        "        history.append(new_edit('comment', 'Ada', head, text='x' * 200_000))\n"
        "    except ProofreadError as error:\n"
        "        print(error)\n"
        "    assert history.head == head\n"
        "    history.append(new_edit('comment', 'Ada', head, text='short'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path / EDITS)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "this edit cannot be saved, the disk is full" in done.stdout
    with History(tmp_path / EDITS, "hash") as history:
        assert [edit.text for edit in history.active()] == ["safe", "short"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_kill_at_any_moment_loses_no_edit_that_was_committed(folder: Path):
    """The number of kills is NTU_KILLS."""
    words = [sys.executable, "-m", "tests.proofread.killed_editor", str(folder), str(KILLS)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    word, edits = done.stdout.split()
    assert word == "edits"
    assert int(edits) > KILLS / 4
