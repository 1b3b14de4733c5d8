from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr

from napari_tokenunify.config import PretrainConfig
from napari_tokenunify.errors import ConfigError
from napari_tokenunify.events import Message
from napari_tokenunify.train.pretraining.sources import open_sources
from tests.train.pretraining.test_pretraining import tissue
from tests.train.toy import drive

SHAPE = (12, 40, 40)


@pytest.fixture
def volumes(tmp_path):
    """Three volumes; the file of the second alone says its voxel size."""
    for number in (0, 2):
        np.save(tmp_path / f"{number}.npy", tissue(number, SHAPE))
    array = zarr.create_array(store=str(tmp_path / "1.zarr"), data=tissue(1, SHAPE), chunks=(12, 40, 40))
    array.attrs.update(resolution=[20.0, 5.0, 5.0], units=["nm"] * 3)
    return tuple(str(tmp_path / name) for name in ("0.npy", "1.zarr", "2.npy"))


def opened(volumes, **changes):
    """Return the sources and what was said of them."""
    _, events, sources = drive(open_sources(PretrainConfig(volumes=volumes, out="-", **changes)))
    return sources, " ".join(event.text for event in events if isinstance(event, Message))


def test_each_volume_may_have_a_voxel_size_of_its_own(volumes):
    sources, said = opened(volumes, voxel_size="10,10,10 file 8, 8, 8")
    sizes = [source.volume.voxel_size_nm for source in sources]
    assert sizes == [(10, 10, 10), (20, 5, 5), (8, 8, 8)]
    assert [source.voxel_size_nm for source in sources] == [None, (10, 10, 10), (10, 10, 10)]
    assert "8x8x8 nm (z y x)" in said


def test_one_voxel_size_is_that_of_all_volumes(volumes):
    sources, said = opened(volumes, voxel_size="10, 10, 10")
    assert {source.volume.voxel_size_nm for source in sources} == {(10, 10, 10)}
    assert not said


@pytest.mark.parametrize(("text", "many"), [("10,10,10 file", 2), ("8 8 8 8", 4)])
def test_voxel_sizes_for_another_number_of_volumes_are_refused(volumes, text, many):
    with pytest.raises(ConfigError, match=f"--voxel-size has {many} entries for 3 volumes: give one for all or one"):
        opened(volumes, voxel_size=text)


def test_a_volume_that_is_given_twice_is_refused_under_whatever_name(volumes, tmp_path):
    with pytest.raises(ConfigError, match=r"0\.npy: is given twice, .* with larger --weights"):
        opened((*volumes, volumes[0]))
    shutil.copy(volumes[0], tmp_path / "copy.npy")
    with pytest.raises(ConfigError, match=r"copy\.npy: holds the voxels of .*0\.npy"):
        opened((*volumes, str(tmp_path / "copy.npy")), voxel_size="10,10,10 file 8,8,8 5,5,5")
    converted = zarr.create_array(store=str(tmp_path / "copy.zarr"), data=np.load(volumes[0]), chunks=(5, 9, 40))
    with pytest.raises(ConfigError, match=r"copy\.zarr: holds the voxels of"):
        opened((volumes[0], str(converted.store.root)))


def test_volumes_of_one_file_are_said_to_show_the_same_tissue_perhaps(tmp_path):
    whole = tissue(0, (24, 40, 40))
    np.savez(tmp_path / "both.npz", one=whole, part=whole[8:])
    _, said = opened((f"{tmp_path / 'both.npz'}::one", f"{tmp_path / 'both.npz'}::part"))
    assert "lie in one file: if they show the same tissue" in said
