from __future__ import annotations

import threading
import time

import pytest

from napari_tokenunify.segment.prediction.behind import Behind


def test_jobs_are_done_in_order_in_another_thread():
    behind, done, threads = Behind(), [], set()
    for number in range(20):
        behind.put(lambda number=number: (done.append(number), threads.add(threading.get_ident())))
    behind.wait()
    assert done == list(range(20))
    assert threads != {threading.get_ident()}
    behind.close()
    behind.close()


def test_the_giver_waits_when_too_much_is_waiting():
    behind, go, given = Behind(), threading.Event(), []

    def give():
        for number in range(10):
            behind.put(go.wait)
            given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    time.sleep(0.1)
    assert 1 <= len(given) < 10
    go.set()
    giver.join()
    behind.close()


def test_the_first_error_reaches_the_giver_and_ends_the_work():
    behind, done = Behind(), []

    def fail():
        raise OSError("full")

    behind.put(fail)
    with pytest.raises(OSError, match="full"):
        behind.wait()
    with pytest.raises(OSError, match="full"):
        behind.put(lambda: done.append(1))
    with pytest.raises(OSError, match="full"):
        behind.close()
    assert not done
