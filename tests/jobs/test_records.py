from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.errors import JobError
from napari_tokenunify.events import Metric, Progress
from napari_tokenunify.jobs import records
from napari_tokenunify.jobs.records import Recorder, RecordReader


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with closing(Recorder(tmp_path / "events.jsonl")) as made:
        yield made


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    reader = RecordReader(path)
    assert reader.read() == []
    path.write_bytes(b'{"event": "Message", "text": "a"}\n{"event": "Mess')
    assert [record["text"] for record in reader.read()] == ["a"]
    assert reader.read() == []
    with path.open("ab") as file:
        file.write(b'age", "text": "b"}\n')
    assert [record["text"] for record in reader.read()] == ["b"]


def test_the_half_line_of_a_killed_writer_is_left_out_and_the_next_begins_afresh(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "Metric", "step": 1, "val')
    with closing(Recorder(path)) as recorder:
        recorder.word("Start", pid=3)
    assert [record["event"] for record in RecordReader(path).read()] == ["Start"]


def test_what_is_no_record_is_left_out(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text('[1]\n"a"\n{"no": "event"}\n\n{"event": 3}\n')
    assert RecordReader(path).read() == []


def test_progress_comes_now_and_then_and_metrics_always(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
):
    now = 0.0
    monkeypatch.setattr(records.time, "monotonic", lambda: now)
    for step in range(100):
        now += 0.01
        recorder.event(Progress(step, 1000, "counting"))
        recorder.event(Metric(step, {"loss": 1.0}))
    recorder.word("State", state="paused")
    found = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    progress = [record for record in found if record["event"] == "Progress"]
    assert 9 <= len(progress) <= 12
    assert progress[-1]["done"] == 99  # what was held back is not lost
    assert progress[-1]["eta_seconds"] == pytest.approx(9.01, abs=0.1)
    assert sum(record["event"] == "Metric" for record in found) == 100
    assert [record["event"] for record in RecordReader(tmp_path / "events.jsonl").read()].count("Progress") == 1


def test_a_pause_does_not_count_as_slow_work(tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch):
    times = iter([0.0, 0.0, 1.0, 1.0, 100.0, 100.0, 101.0, 101.0])  # asked when it comes, and when it is written
    monkeypatch.setattr(records.time, "monotonic", lambda: next(times))
    recorder.event(Progress(0, 10, "counting"))
    recorder.event(Progress(1, 10, "counting"))
    recorder.forget_time()
    recorder.event(Progress(2, 10, "counting"))
    recorder.event(Progress(3, 10, "counting"))
    assert RecordReader(tmp_path / "events.jsonl").read()[-1]["eta_seconds"] == 7.0


def test_numbers_of_numpy_and_paths_are_written_as_plain_values(tmp_path: Path, recorder: Recorder):
    recorder.event(Metric(1, {"loss": np.float32(0.5)}))
    recorder.word("State", result={"out": tmp_path})
    metric, state = RecordReader(tmp_path / "events.jsonl").read()
    assert metric["values"] == {"loss": 0.5}
    assert state["result"] == {"out": str(tmp_path)}


def test_after_a_record_that_could_not_be_written_the_next_begins_afresh(tmp_path: Path, recorder: Recorder):

    class FullDisk:
        def __init__(self, file: object) -> None:
            self.file = file
            self.room = 10

        def write(self, data: bytes) -> int:
            if self.room <= 0:
                raise OSError(28, "No space left on device")
            written = self.file.write(data[: self.room])
            self.room -= written
            return written

    whole = recorder._file
    recorder._file = FullDisk(whole)
    with pytest.raises(JobError, match="No space left on device"):
        recorder.word("State", state="running")
    recorder._file = whole
    recorder.word("State", state="failed")
    assert [record["state"] for record in RecordReader(tmp_path / "events.jsonl").read()] == ["failed"]


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path):
    with pytest.raises(JobError, match="cannot be written"):
        Recorder(tmp_path / "missing" / "events.jsonl")
