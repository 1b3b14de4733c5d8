from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_tokenunify.data import intensity
from napari_tokenunify.data.intensity import IntensityRange, choose_intensity, intensity_range, tissue
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.errors import VolumeError


def grey(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(130, 25, shape).clip(0, 255).astype(np.uint8)


class Stored:
    """An array that seems to lie in a file: it counts what is read."""

    def __init__(self, shape: tuple[int, int, int], chunks: tuple[int, int, int], empty: bool = False) -> None:
        self.shape, self.chunks, self.dtype = shape, chunks, np.dtype(np.uint8)
        self.empty, self.reads, self.largest = empty, 0, 0
        self.tile = grey((1 << 18,))

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        starts, stops = [part.start for part in index], [part.stop for part in index]
        shape = tuple(b - a for a, b in zip(starts, stops, strict=True))
        for start, stop, chunk in zip(starts, stops, self.chunks, strict=True):
            assert start // chunk == (stop - 1) // chunk, "one read touches one chunk"
        self.reads += 1
        tile = self.tile[: np.prod(shape)].reshape(shape)
        self.largest = max(self.largest, int(np.prod(shape)))
        middle = all(a <= n // 2 < b for a, n, b in zip(starts, self.shape, stops, strict=True))
        return np.zeros(shape, np.uint8) if self.empty and not middle else tile


def test_normalised_voxels_are_floats_from_0_to_1() -> None:
    array = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)
    result = IntensityRange(50, 150).normalise(array)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[0, 0, 0.5], [1, 1, 1]])
    assert array[0, 1] == 50


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float16, np.float32, np.float64])
def test_every_type_of_image_is_normalised_alike(dtype: type) -> None:
    result = IntensityRange(20, 120).normalise(np.array([20, 70, 120], dtype))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [0, 0.5, 1])


def test_a_large_offset_does_not_blur_the_values() -> None:
    array = 1e9 + np.array([0.0, 0.25, 1.0])
    np.testing.assert_allclose(IntensityRange(1e9, 1e9 + 1).normalise(array), [0, 0.25, 1])


def test_bad_values_do_not_get_through() -> None:
    array = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    np.testing.assert_array_equal(IntensityRange(0, 2).normalise(array), np.float32([0, 1, 0, 0.5]))


def test_a_range_without_extent_gives_zeros() -> None:
    result = IntensityRange(7, 7).normalise(np.full((2, 3), 7, np.uint8))
    np.testing.assert_array_equal(result, np.zeros((2, 3), np.float32))


def test_a_small_volume_is_measured_whole() -> None:
    array = grey((20, 70, 90))
    measured = intensity_range(Volume.from_array(array))
    assert (measured.low, measured.high) == pytest.approx(np.percentile(array, (0.5, 99.5)), abs=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sample_comes_close_to_the_whole(seed: int) -> None:
    array = grey((40, 400, 400)).astype(np.float32)
    array += np.linspace(0, 60, 40, dtype=np.float32)[:, None, None]  # sections get brighter
    measured = intensity_range(Volume.from_array(array), seed=seed)
    low, high = np.percentile(array, (0.5, 99.5))
    assert abs(measured.low - low) < 0.02 * (high - low)
    assert abs(measured.high - high) < 0.02 * (high - low)


def test_the_same_seed_gives_the_same_range() -> None:
    volumes = [Volume.from_array(Stored((900, 4000, 4000), (32, 32, 32))) for _ in range(2)]
    assert intensity_range(volumes[0], seed=3) == intensity_range(volumes[1], seed=3)


def test_blank_sections_and_padding_do_not_count() -> None:
    cells = grey((30, 80, 80)).clip(60, 200)
    array = np.pad(cells, ((0, 0), (64, 64), (60, 70)))
    array[3:9] = 255
    array[12] = 0
    expected = intensity_range(Volume.from_array(cells))
    measured = intensity_range(Volume.from_array(array))
    assert (measured.low, measured.high) == pytest.approx((expected.low, expected.high), abs=2)


def test_tissue_is_all_but_the_stretches_of_one_value_at_the_ends() -> None:
    array = np.array([[0, 0, 0, 7, 8, 8, 9, 5, 5], [3, 4, 4, 4, 6, 4, 4, 4, 2], [1, 1, 1, 1, 1, 1, 1, 1, 1]])
    np.testing.assert_array_equal(tissue(array), [7, 8, 8, 9, 3, 4, 4, 4, 6, 4, 4, 4, 2])
    np.testing.assert_array_equal(tissue(array.T[:, :2]), tissue(array[:2]))
    assert tissue(np.array([[[5]]])).tolist() == [5]


def test_a_drawing_without_noise_has_a_range() -> None:
    array = np.full((6, 40, 40), 200, np.uint8)
    array[:, :, 20:22] = 40
    assert intensity_range(Volume.from_array(array)) == IntensityRange(40, 200)


def test_tissue_in_the_middle_of_an_empty_store_is_found() -> None:
    stored = Stored((2000, 5000, 5000), (32, 32, 32), empty=True)
    measured = intensity_range(Volume.from_array(stored))
    assert 50 < measured.low < 80 < 180 < measured.high < 210
    assert stored.reads <= 1025


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((4000, 5000, 5000), (32, 32, 32)), ((500, 20000, 20000), (1, 20000, 20000)), ((600, 600, 600), (600, 600, 600))],
)
def test_little_is_read_of_a_large_volume(shape: tuple[int, int, int], chunks: tuple[int, int, int]) -> None:
    stored = Stored(shape, chunks)
    intensity_range(Volume.from_array(stored))
    assert stored.reads * np.prod(chunks) <= max(512 << 20, 8 * np.prod(chunks))
    assert stored.largest <= 1 << 18


def test_a_blank_volume_is_refused() -> None:
    with pytest.raises(VolumeError, match=r"^blank\.npy: seems blank: all sampled voxels are 9; .*\.$"):
        intensity_range(Volume.from_array(np.full((4, 40, 40), 9, np.uint8), name="blank.npy"))


def test_almost_one_value_still_has_a_range() -> None:
    array = np.full((4, 200, 200), 9, np.uint8)
    array[:, ::3, ::40] = 30
    assert intensity_range(Volume.from_array(array)) == IntensityRange(9, 30)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    array = grey((4, 40, 40)).astype(np.float32)
    array[2, 10, 10] = bad
    with pytest.raises(VolumeError, match=r"not finite .* replace them"):
        intensity_range(Volume.from_array(array))


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.uint64])
def test_labels_are_refused(dtype: type) -> None:
    with pytest.raises(VolumeError, match="as labels have"):
        intensity_range(Volume.from_array(np.ones((4, 40, 40), dtype)))


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the volumes measured, one a time."""
    measured: list[str] = []
    measure = intensity._measure

    def counted(volume: Volume, seed: int) -> IntensityRange:
        measured.append(Path(volume.uri).name)
        return measure(volume, seed)

    monkeypatch.setattr(intensity, "_measure", counted)
    return measured


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def saved(path: Path, seed: int = 0) -> Path:
    np.save(path, grey((4, 40, 40), seed))
    return path


def test_a_range_is_measured_once(tmp_path: Path, measures: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, store = saved(tmp_path / "a.npy"), tmp_path / "project" / "intensity.json"
    first = intensity_range(open_volume(path), store)
    assert intensity_range(open_volume(path), store, seed=5) == first
    monkeypatch.chdir(tmp_path)
    assert intensity_range(open_volume("a.npy"), store) == first
    assert measures == ["a.npy"]
    assert names(store.parent) == ["intensity.json"]


def test_one_store_keeps_several_volumes(tmp_path: Path, measures: list[str]) -> None:
    store = tmp_path / "intensity.json"
    volumes = [open_volume(saved(tmp_path / name, seed)) for seed, name in enumerate(["a.npy", "b.npy"])]
    first = [intensity_range(volume, store) for volume in volumes]
    assert [intensity_range(volume, store) for volume in volumes] == first
    assert measures == ["a.npy", "b.npy"]


def test_parts_of_one_file_are_kept_apart(tmp_path: Path) -> None:
    path, store = tmp_path / "both.npz", tmp_path / "intensity.json"
    np.savez(path, dark=grey((4, 40, 40)) // 2, light=grey((4, 40, 40)))
    dark, light = (intensity_range(open_volume(f"{path}::{name}"), store) for name in ("dark", "light"))
    assert dark.high < light.high


def test_a_changed_file_is_measured_again(tmp_path: Path, measures: list[str]) -> None:
    path, store = saved(tmp_path / "a.npy"), tmp_path / "intensity.json"
    before = intensity_range(open_volume(path), store)
    times = path.stat()
    np.save(path, grey((4, 40, 40)) // 2)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and time as before: only the voxels tell
    after = intensity_range(open_volume(path), store)
    assert after.high < before.high
    assert len(measures) == 2


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"KEY": {"low": 1}}', '{"KEY": {"low": "x", "high": 3}}', "\xff"])
def test_a_damaged_store_is_replaced(tmp_path: Path, text: str) -> None:
    path, store = saved(tmp_path / "a.npy"), tmp_path / "intensity.json"
    expected = intensity_range(open_volume(path), store)
    (key,) = json.loads(store.read_text())
    store.write_bytes(text.replace("KEY", key).encode("latin-1"))
    assert intensity_range(open_volume(path), store) == expected
    assert json.loads(store.read_text()) == {key: {"low": expected.low, "high": expected.high}}


def test_a_store_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy")
    assert intensity_range(open_volume(path), path / "intensity.json") == intensity_range(open_volume(path))


def test_an_array_in_memory_is_not_kept(tmp_path: Path, measures: list[str]) -> None:
    store = tmp_path / "intensity.json"
    for _ in range(2):
        intensity_range(Volume.from_array(grey((4, 40, 40))), store)
    assert len(measures) == 2
    assert not store.exists()


def test_a_failed_write_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "intensity.json"
    intensity_range(open_volume(saved(tmp_path / "a.npy")), store)
    before = store.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(intensity.json, "dump", full)
    intensity_range(open_volume(saved(tmp_path / "b.npy", 1)), store)
    assert store.read_bytes() == before
    assert names(tmp_path) == ["a.npy", "b.npy", "intensity.json"]


def test_grey_values_are_those_of_the_training_where_they_fit():
    volume = Volume.from_array(grey((8, 64, 64)))
    own = intensity_range(volume)
    near = IntensityRange(own.low + 5, own.high - 5)
    taken, sentence = choose_intensity(volume, near)
    assert taken == near
    assert "network's training" in sentence
    for other in (IntensityRange(0, 1), IntensityRange(own.low, 10 * own.high)):
        measured, sentence = choose_intensity(volume, other)
        assert measured == own
        assert "because the network was trained" in sentence
    measured, sentence = choose_intensity(volume, None)
    assert measured == own
    assert "unknown" in sentence
