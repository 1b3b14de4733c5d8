from __future__ import annotations

import numcodecs
import numpy as np
import pytest

from napari_tokenunify.data.formats.blosc import CheckedBlosc

DATA = np.random.default_rng(0).integers(0, 16, 200_000, np.uint8)
CHUNKS = {name: numcodecs.Blosc(name, shuffle=1).encode(DATA) for name in numcodecs.blosc.list_compressors()}


@pytest.mark.parametrize("name", CHUNKS)
def test_whole_chunks_are_decoded(name: str):
    assert CheckedBlosc().decode(CHUNKS[name]) == DATA.tobytes()
    out = np.empty_like(DATA)
    CheckedBlosc().decode(np.frombuffer(CHUNKS[name], np.uint8), out)
    np.testing.assert_array_equal(out, DATA)


@pytest.mark.parametrize("left", [0, 1, 15, 16, 1000, -1])
@pytest.mark.parametrize("name", CHUNKS)
def test_a_chunk_that_is_cut_off_is_refused(name: str, left: int):
    with pytest.raises(ValueError, match="cut off"):
        CheckedBlosc().decode(CHUNKS[name][:left])
