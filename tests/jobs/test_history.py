from __future__ import annotations

import json

from napari_tokenunify.jobs.history import Curves
from napari_tokenunify.jobs.run_folder import RunFolder


def add(folder, *steps, loss=1.0):
    with RunFolder(folder).events.open("a") as file:
        for step in steps:
            file.write(json.dumps({"event": "Metric", "step": step, "values": {"loss": loss / step}}) + "\n")


def test_curves_grow_by_what_is_new_and_what_was_returned_stays_as_it_was(tmp_path):
    curves = Curves(tmp_path)
    assert curves.read() == {}
    add(tmp_path, 1, 2)
    first = curves.read()
    add(tmp_path, 4)
    assert curves.read() == {"loss": {1: 1.0, 2: 0.5, 4: 0.25}} == Curves(tmp_path).read()
    assert first == {"loss": {1: 1.0, 2: 0.5}}


def test_a_step_that_was_repeated_after_a_checkpoint_has_its_last_value(tmp_path):
    curves = Curves(tmp_path)
    add(tmp_path, 1, 2)
    curves.read()
    add(tmp_path, 2, 4, loss=3.0)
    assert curves.read() == {"loss": {1: 1.0, 2: 1.5, 4: 0.75}}
