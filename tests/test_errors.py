from __future__ import annotations

import pickle

from napari_tokenunify.errors import Candidate, DatasetChoiceError, VolumeError


def test_the_message_names_the_address_first():
    assert str(VolumeError("a.tif", "is cut off.")) == "a.tif: is cut off."


def test_errors_cross_from_a_worker_process_with_their_facts():
    error = DatasetChoiceError("a.h5", "name one.", (Candidate("raw", (4, 5, 6), "uint8"),))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.uri, copy.candidates, str(copy)) == (error.uri, error.candidates, str(error))
    assert str(copy.candidates[0]) == "raw (4x5x6 uint8)"
