from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

CHILD = """
import resource, sys
import numpy as np
from napari_tokenunify.network.heap import keep_freed_memory

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [np.ones(3_000_000) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

[fetched() for _ in range(2)]
usual = fetched()
done = keep_freed_memory()
[fetched() for _ in range(2)]
print(done, usual, fetched())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_was_freed_is_not_fetched_from_the_system_again():
    words = [sys.executable, "-c", CHILD]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}  # dask leaves its own
    done, usual, kept = subprocess.run(words, capture_output=True, text=True, check=True, env=plain).stdout.split()
    assert done == "True"
    assert int(usual) > 1000
    assert int(kept) < int(usual) / 10


def test_where_it_cannot_be_done_nothing_happens(monkeypatch):
    from napari_tokenunify.network import heap

    monkeypatch.setattr(sys, "platform", "win32")
    assert heap.keep_freed_memory() is False
