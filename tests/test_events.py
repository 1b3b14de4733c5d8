from __future__ import annotations

import json

from napari_tokenunify.events import Message, Progress, to_json


def test_an_event_survives_json_with_its_type():
    assert json.loads(json.dumps(to_json(Progress(3, 8, "reading")))) == {
        "event": "Progress",
        "done": 3,
        "total": 8,
        "what": "reading",
    }
    assert to_json(Message("careful", "warning"))["level"] == "warning"
