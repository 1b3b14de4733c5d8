from __future__ import annotations

from napari_tokenunify.events import Message, Progress
from napari_tokenunify.helped.told import told
from tests.train.toy import drive


def test_a_stage_tells_how_far_it_is_as_a_part_of_the_whole():
    def stage():
        yield Progress(0, 4, "reading")
        yield Message("Not passed on.")
        yield Progress(4, 4, "reading")
        return "made"

    _, events, made = drive(told(stage(), begins=1.5, share=0.5, total=3, what="training"))
    assert events == [Progress(1500, 3000, "training"), Progress(2000, 3000, "training")]
    assert made == "made"


def test_a_stage_that_is_stopped_gets_to_end_well():
    ended = []

    def stage():
        try:
            while True:
                yield Progress(0, 1, "training")
        finally:
            ended.append(True)

    passed_on = told(stage(), 0, 1, 1, "training")
    next(passed_on)
    passed_on.close()
    assert ended
