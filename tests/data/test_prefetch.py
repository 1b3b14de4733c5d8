"""Items made ahead by threads and processes: in order, the same as without, and gone when closed."""

import os
import threading
import time

import numpy as np
import pytest

from napari_tokenunify.data.annotations import Annotations
from napari_tokenunify.data.crops import CropSampler
from napari_tokenunify.data.intensity import IntensityRange
from napari_tokenunify.data.prefetch import iterate
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.errors import TokenUnifyError, VolumeError


@pytest.fixture
def crops():
    rng = np.random.default_rng(0)
    labels = Annotations.from_array(rng.integers(0, 3, (6, 30, 30)).astype(np.uint8))
    image = Volume.from_array(rng.integers(0, 255, (6, 30, 30)).astype(np.uint8))
    return CropSampler(image, labels, (4, 12, 12), IntensityRange(0.0, 255.0))


class Squares:
    """Slow where the number is even, so that workers overtake each other."""

    made = 0

    def __getitem__(self, index):
        Squares.made += 1
        time.sleep(0.01 * (index % 2 == 0))
        return index * index


class Failing:
    def __getitem__(self, index):
        if index == 3:
            raise VolumeError("stack.tif", "is cut off.")
        if index == 9:
            os._exit(1)
        return index


@pytest.mark.parametrize(("workers", "processes"), [(1, False), (2, False), (2, True)])
def test_any_number_of_workers_gives_the_same_crops(crops, workers, processes):
    for index, crop in enumerate(iterate(crops, 7, workers, start=2, processes=processes), start=2):
        alone = crops[index]
        assert crop.box == alone.box
        np.testing.assert_array_equal(crop.image, alone.image)
        np.testing.assert_array_equal(crop.labels, alone.labels)
    assert index == 8


@pytest.mark.parametrize("workers", [0, 1, 3, 50])
def test_items_come_in_order(workers):
    assert list(iterate(Squares(), 20, workers, start=5)) == [i * i for i in range(5, 25)]


def test_only_a_few_items_are_made_ahead_and_none_after_closing():
    Squares.made = 0
    items = iterate(Squares(), 1000, workers=2)
    assert next(items) == 0
    items.close()
    assert Squares.made <= 5
    assert not any(thread.name.startswith("crops") for thread in threading.enumerate())


@pytest.mark.parametrize(("workers", "processes"), [(0, False), (2, False), (1, True)])
def test_an_error_in_a_worker_arrives_as_itself(workers, processes):
    items = iterate(Failing(), 6, workers, processes=processes)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(VolumeError, match=r"stack\.tif: is cut off") as caught:
        next(items)
    assert caught.value.problem == "is cut off."


def test_a_process_that_ends_is_said_in_one_sentence():
    with pytest.raises(TokenUnifyError, match="has ended"):
        list(iterate(Failing(), 3, 1, start=8, processes=True))
