from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_tokenunify.affinities import known_affinities
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.errors import SegmentError, VolumeError
from napari_tokenunify.events import Message, Progress
from napari_tokenunify.geometry import Box
from napari_tokenunify.segment import affinity_writer, open_affinities, predict_volume
from napari_tokenunify.segment.prediction.tiles import TileGrid
from tests.segment.fake_networks import (
    LabelNetwork,
    PositionNetwork,
    bytes_of,
    drive,
    label_image,
    noise_volume,
    settings,
    small_cells,
)

SHAPE = (6, 20, 24)
CHILD = """
import sys, time
from tests.segment import fake_networks as fake
from napari_tokenunify.segment import affinity_writer, predict_volume
affinity_writer.CELL = fake.SMALL_CELL
class Slow(fake.PositionNetwork):
    def __call__(self, tiles):
        time.sleep(60 if self.calls == 10 else 0.02)  # waits to be killed
        return super().__call__(tiles)
for event in predict_volume(fake.noise_volume(), Slow(), sys.argv[1], fake.settings(save_after=0.0)):
    print(event, flush=True)
"""


@pytest.fixture(autouse=True)
def _cells(monkeypatch):
    small_cells(monkeypatch)


@pytest.fixture
def wanted(tmp_path):
    _, result = drive(predict_volume(noise_volume(), PositionNetwork(), tmp_path / "wanted.zarr", settings()))
    assert result["complete"]
    return bytes_of(tmp_path / "wanted.zarr")


def run(out, network=None, volume=None, overwrite=False, **changes):
    network = network or PositionNetwork()
    return drive(predict_volume(volume or noise_volume(), network, out, settings(**changes), overwrite=overwrite))


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_do_not_write_to_the_same_store(tmp_path, wanted, overwrite):
    out = tmp_path / "a.zarr"
    if overwrite:
        run(out)
    first = predict_volume(noise_volume(), PositionNetwork(), out, settings(), overwrite=overwrite)
    while not isinstance(event := next(first), Progress) or event.done == 0:
        pass
    for other in (False, True):
        with pytest.raises(SegmentError, match="another run is at work there"):
            run(out, overwrite=other)
    first.close()
    assert run(out)[1]["complete"]
    assert bytes_of(out) == wanted


def test_affinities_are_the_weighted_mean_of_the_tiles(tmp_path):
    volume, network = noise_volume(), PositionNetwork()
    run(tmp_path / "a.zarr", network, volume, dtype="float16")
    import torch

    image = volume.read(Box.whole(SHAPE)).astype(np.float32) / 255
    grid = TileGrid.cover(SHAPE, (4, 10, 10), 0.25, SHAPE)
    total, weights = np.zeros((3, *SHAPE)), np.zeros(SHAPE)
    lines = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (0.125 * n)) ** 2) for n in grid.tile]
    gaussian = lines[0][:, None, None] * lines[1][:, None] * lines[2]
    for tile in itertools.product(*(range(len(starts)) for starts in grid.starts)):
        inside = grid.tile_box(tile).slices
        answer = network(torch.from_numpy(image[inside])[None, None])[0].numpy()
        total[(slice(None), *inside)] += answer * gaussian
        weights[inside] += gaussian
    store = open_affinities(tmp_path / "a.zarr")
    np.testing.assert_allclose(store.read(Box.whole(SHAPE)), total / weights, atol=2**-12 + 8 / 65000)
    assert store.settings["tile"] == [4, 10, 10]
    assert (store.voxel_size_nm, store.complete) == ((40, 4, 4), True)


def test_labels_that_a_perfect_network_sees_come_back(tmp_path):
    image = label_image((4, 12, 30))
    events, result = run(
        tmp_path / "a.zarr", LabelNetwork(), Volume.from_array(image), tile=(4, 12, 30), tta="flips", overlap=0.5
    )
    target, mask = known_affinities(image)
    store = open_affinities(tmp_path / "a.zarr")
    assert np.abs(store.read(Box.whole(store.shape)) - target)[mask].max() < 0.01
    assert events[-1] == Progress(1, 1, "predicting")
    assert result.keys() == {
        "out", "seconds", "voxels_per_second", "tiles", "failed", "peak_memory_mb", "complete"
    }  # fmt: skip
    assert (tmp_path / "a.zarr" / "uncertainty" / "c" / "0" / "0" / "0").is_file()


@pytest.mark.parametrize("changes", [{"start_at": (5, 19, 23)}, {"budget": 0}, {"save_after": 0.0}])
def test_the_bytes_are_the_same_in_any_order(tmp_path, wanted, changes):
    run(tmp_path / "a.zarr", **changes)
    assert bytes_of(tmp_path / "a.zarr") == wanted


def test_what_the_user_looks_at_comes_first(tmp_path):
    stage = predict_volume(noise_volume(), PositionNetwork(), tmp_path / "a.zarr", settings(start_at=(5, 19, 23)))
    for event in stage:
        if isinstance(event, Progress) and event.done == 12:
            break
    stage.close()
    store = open_affinities(tmp_path / "a.zarr")
    assert not store.missing(Box((5, 19, 23), (6, 20, 24)))
    assert store.missing(Box((0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize("stop_at", [0, 1, 7, 17])
def test_a_run_that_was_stopped_goes_on(tmp_path, wanted, stop_at):
    stage = predict_volume(noise_volume(), PositionNetwork(), tmp_path / "a.zarr", settings())
    for event in stage:
        if isinstance(event, Progress) and event.done == stop_at:
            break
    stage.close()
    assert not open_affinities(tmp_path / "a.zarr").complete
    network = PositionNetwork()
    events, result = run(tmp_path / "a.zarr", network)
    assert result["tiles"] == network.calls == 18 - stop_at
    assert f"{18 - stop_at} of them" in events[0].text or stop_at == 0
    assert bytes_of(tmp_path / "a.zarr") == wanted


def test_a_run_that_was_killed_goes_on(tmp_path, wanted):
    out, root = tmp_path / "a.zarr", Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", CHILD, out], stdout=subprocess.PIPE, text=True, cwd=root)
    with child:
        for line in child.stdout:
            if "done=9," in line:
                break
        time.sleep(0.05)  # in the middle of something
        child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    assert child.returncode != 0
    assert not open_affinities(out).complete
    network = PositionNetwork()
    _, result = run(out, network)
    assert result["tiles"] == network.calls
    assert 8 <= network.calls <= 11
    assert bytes_of(out) == wanted


def test_what_is_complete_is_left_alone(tmp_path, wanted):
    network = PositionNetwork()
    _, result = run(tmp_path / "wanted.zarr", network)
    assert (network.calls, result["tiles"], result["complete"]) == (0, 0, True)
    assert bytes_of(tmp_path / "wanted.zarr") == wanted


class Damaged(Volume):
    """Cannot be read where z is 4 or more and y and x below 5."""

    def read(self, box, level=0):
        if box.stop[0] > 4 and box.start[1] < 5 and box.start[2] < 5:
            raise VolumeError(self.uri, "is damaged there.")
        return super().read(box, level)


def test_a_tile_that_fails_is_named_and_the_others_are_done(tmp_path, wanted):
    sound = noise_volume()
    volume = Damaged(sound.uri, sound.format, sound.levels, sound.origin_nm, sound.provenance)
    stage = predict_volume(volume, PositionNetwork(), tmp_path / "a.zarr", settings())
    events = []
    with pytest.raises(SegmentError, match=r"1 of 18 tiles have failed, 2:6,0:10,0:10 \(noise: is damaged") as caught:
        events.extend(stage)
    assert "run the same command again" in str(caught.value)
    store = open_affinities(tmp_path / "a.zarr")
    assert store.failed == (Box((2, 0, 0), (6, 10, 10)),)
    assert not store.complete
    with pytest.raises(SegmentError, match="some have failed"):
        store.read(Box((4, 0, 0), (6, 8, 8)))
    assert store.read(Box((0, 16, 16), (6, 20, 24))).max() > 0.3
    network = PositionNetwork()
    _, result = run(tmp_path / "a.zarr", network)
    assert (result["tiles"], network.calls) == (1, 1)
    assert bytes_of(tmp_path / "a.zarr") == wanted


def test_a_volume_of_which_nothing_can_be_read_ends_the_run_early(tmp_path):
    class Gone(Volume):
        def read(self, box, level=0):
            if box.shape[0] > 1:
                raise VolumeError(self.uri, "the drive is gone.")
            return super().read(box, level)

    sound = noise_volume((40, 20, 24))
    volume = Gone(sound.uri, sound.format, sound.levels, sound.origin_nm, sound.provenance)
    with pytest.raises(SegmentError, match="first 16 tiles have all failed: noise: the drive is gone"):
        run(tmp_path / "a.zarr", volume=volume)


def test_a_full_disk_is_said_and_nothing_is_taken_for_done(tmp_path, wanted, monkeypatch):
    written = []

    def full(file):
        written.append(file)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(affinity_writer, "_sync", full)
        with pytest.raises(SegmentError, match=r"cannot be written \(No space left on device\); make room"):
            run(tmp_path / "a.zarr")
    store = open_affinities(tmp_path / "a.zarr")
    assert not store.complete
    cells = 2 * 3 * 3
    assert len(store.missing()) == cells - 3
    _, result = run(tmp_path / "a.zarr")
    assert result["complete"]
    assert bytes_of(tmp_path / "a.zarr") == wanted


def test_a_box_is_a_part_of_the_volume(tmp_path):
    image = label_image(SHAPE)
    box = Box((1, 3, 5), (5, 17, 24))
    part = image[box.slices]
    network = LabelNetwork()
    run(tmp_path / "a.zarr", network, Volume.from_array(image, (40, 4, 4)), box=box, start_at=(2, 16, 20))
    run(tmp_path / "b.zarr", network, Volume.from_array(np.ascontiguousarray(part)), start_at=(1, 13, 15))
    store, alone = open_affinities(tmp_path / "a.zarr"), open_affinities(tmp_path / "b.zarr")
    assert (store.shape, store.origin) == (box.shape, box.start)
    np.testing.assert_array_equal(store.read(Box.whole(box.shape)), alone.read(Box.whole(box.shape)))
    with pytest.raises(SegmentError, match="reaches outside the volume"):
        run(tmp_path / "c.zarr", box=Box((0, 0, 0), (7, 20, 24)))
    assert not (tmp_path / "c.zarr").exists()


def test_a_volume_smaller_than_the_tile_is_one_tile(tmp_path):
    _, result = run(tmp_path / "a.zarr", tile=(32, 64, 64))
    assert result["tiles"] == 1
    assert open_affinities(tmp_path / "a.zarr").shape == SHAPE


def test_resampled_tiles_come_back_to_the_grid_of_the_volume(tmp_path):
    ramp = np.linspace(40, 215, 24) * np.ones((6, 20, 1))
    volume = Volume.from_array(ramp.astype(np.float32), (40, 4, 4))
    shapes = set()

    def network(tiles):
        shapes.add(tuple(tiles.shape[2:]))
        return tiles.expand(-1, 3, -1, -1, -1)

    run(tmp_path / "a.zarr", network, volume, network_voxel_size_nm=(20, 8, 8))
    assert shapes == {(8, 5, 5)}
    store = open_affinities(tmp_path / "a.zarr")
    read = store.read(Box.whole(SHAPE))
    np.testing.assert_allclose(read, np.broadcast_to(ramp / 255, (3, *SHAPE)), atol=0.03)


@pytest.mark.parametrize(
    "changes",
    [{"tile": (4, 8, 8)}, {"overlap": 0.5}, {"dtype": "float16"}, {"tta": "flips"}, {"box": Box((0, 0, 0), (6, 8, 8))}],
)
def test_a_rerun_with_other_settings_is_refused(tmp_path, wanted, changes):
    (name,) = changes
    with pytest.raises(SegmentError, match=rf"other settings \(.*{name}.*\): choose another --out, or use --overwrite"):
        run(tmp_path / "wanted.zarr", **changes)
    assert bytes_of(tmp_path / "wanted.zarr") == wanted
    _, result = run(tmp_path / "wanted.zarr", overwrite=True, **changes)
    assert result["complete"]
    assert not list(tmp_path.glob(".*"))


def test_other_weights_or_another_volume_are_other_settings(tmp_path):
    run(tmp_path / "a.zarr", about={"weights_sha256": "a", "versions": {"python": "3.11"}})
    run(tmp_path / "a.zarr", about={"weights_sha256": "a", "versions": {"python": "3.12"}})
    with pytest.raises(SegmentError, match=r"\(weights_sha256\)"):
        run(tmp_path / "a.zarr", about={"weights_sha256": "b"})
    with pytest.raises(SegmentError, match=r"\(volume\)"):
        run(tmp_path / "a.zarr", volume=noise_volume(name="other"), about={"weights_sha256": "a"})


@pytest.mark.parametrize("half", [True, False])
def test_a_voxel_size_that_is_known_by_now_is_taken_over(tmp_path, half):
    before, now = noise_volume(size=None), replace(noise_volume(), origin_nm=(80, 4, 8))
    stage = predict_volume(before, PositionNetwork(), tmp_path / "a.zarr", settings(save_after=0.0, tta="flips"))
    for _ in range(20) if half else ():
        next(stage)
    if half:
        stage.close()
    else:
        drive(stage)
    run(tmp_path / "a.zarr", volume=now, save_after=0.0, tta="flips")
    run(tmp_path / "b.zarr", volume=now, save_after=0.0, tta="flips")
    assert open_affinities(tmp_path / "a.zarr").voxel_size_nm == (40, 4, 4)
    for name in ("zarr.json", "uncertainty/zarr.json"):
        one, other = (json.loads((tmp_path / store / name).read_text()) for store in ("a.zarr", "b.zarr"))
        assert one["attributes"] == other["attributes"]


def test_another_voxel_size_is_another_setting_where_tiles_were_resampled(tmp_path):
    run(tmp_path / "a.zarr", network_voxel_size_nm=(20, 8, 8))
    with pytest.raises(SegmentError, match=r"\(voxel size\)"):
        run(
            tmp_path / "a.zarr",
            volume=noise_volume(size=(50, 4, 4)),
            network_voxel_size_nm=(20, 8, 8),
        )


def test_what_is_not_ours_is_never_overwritten(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("years of work")
    with pytest.raises(SegmentError):
        run(tmp_path / "a.zarr", overwrite=True)
    np.save(tmp_path / "b.npy", np.zeros((3, *SHAPE), np.uint8))
    with pytest.raises(SegmentError, match="was not made by predict"):
        run(tmp_path / "b.npy", overwrite=True)
    assert (tmp_path / "a.zarr" / "thesis.txt").exists()


def test_it_says_at_the_start_what_it_does(tmp_path):
    events, _ = run(tmp_path / "a.zarr")
    assert isinstance(events[0], Message)
    assert events[0].text == "Predicting on cpu in fp32: 18 tiles of 4x10x10 voxels, 1 at a time."
    assert [event.done for event in events[1:]] == list(range(19))
