from __future__ import annotations

import pickle

import numpy as np
import pytest

from napari_tokenunify.data import IntensityRange, open_volume
from napari_tokenunify.data.augment import PerturbConfig
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.geometry import Box
from napari_tokenunify.train.pretraining.pretraining_samples import PretrainingSamples, part_of

GREY = IntensityRange(0, 255)
CLEAN = PerturbConfig(probability=0)


def volume(shape=(20, 40, 48), voxel_size_nm=(10, 10, 10), seed=0):
    return Volume.from_array(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), voxel_size_nm)


def samples(parts, weights=None, crop=(4, 16, 16), perturbations=CLEAN, seed=0):
    return PretrainingSamples(parts, [GREY] * len(parts), weights or [1] * len(parts), crop, perturbations, seed)


def test_a_sample_depends_on_seed_and_number_only():
    many = samples([volume(), volume(seed=1)], perturbations=PerturbConfig(probability=1))
    again = pickle.loads(pickle.dumps(many))
    for index in (0, 7, 3):
        assert np.array_equal(many[index].clean, again[index].clean)
        assert np.array_equal(many[index].perturbed, again[index].perturbed)
    assert not np.array_equal(many[0].clean, many[1].clean)
    assert not np.array_equal(many[0].perturbed, many[0].clean)
    assert not np.array_equal(many[0].clean, samples([volume(), volume(seed=1)], seed=1)[0].clean)


def test_volumes_are_drawn_by_their_weights():
    dark, bright = (
        Volume.from_array(np.clip(volume().read(Box.whole((20, 40, 48))), *ends)) for ends in ((0, 99), (156, 255))
    )
    many = samples([dark, bright], [1, 3])
    share = np.mean([many[index].clean.mean() > 0.5 for index in range(200)])
    assert share == pytest.approx(0.75, abs=0.1)


def test_what_is_held_out_is_not_drawn():
    array = volume().read(Box.whole((20, 40, 48)))
    array[15:] = 255
    many = samples([part_of(Volume.from_array(array), (0, 15))])
    assert all(many[index].box.stop[0] <= 15 for index in range(50))
    assert part_of(Volume.from_array(array), (15, 20)).read(Box.whole((5, 40, 48))).min() == 255


def test_blank_regions_are_avoided():
    array = np.zeros((8, 64, 256), np.uint8)
    array[:, :, 128:] = volume((8, 64, 128)).read(Box.whole((8, 64, 128)))
    many = samples([Volume.from_array(array)])
    assert all(many[index].clean.std() > 0.02 for index in range(40))


def test_a_part_at_another_voxel_size_shows_the_same_tissue():
    z, y, x = np.meshgrid(*(np.arange(n) for n in (20, 40, 48)), indexing="ij")
    fine = Volume.from_array((100 + 2 * z + y + x).astype(np.uint8), (10, 5, 5))
    coarse = part_of(fine, (4, 20), (20, 10, 10))
    assert (coarse.shape, coarse.voxel_size_nm) == ((8, 20, 24), (20, 10, 10))
    found = coarse.read(Box((2, 4, 6), (4, 8, 12))).astype(float)
    expected = (100 + 2 * z + y + x)[4:].reshape(8, 2, 20, 2, 24, 2).mean(axis=(1, 3, 5))[2:4, 4:8, 6:12]
    assert np.abs(found - expected)[:, 1:-1, 1:-1].max() <= 1.5


def test_a_part_of_a_file_crosses_to_another_process(tmp_path):
    np.save(tmp_path / "raw.npy", volume().read(Box.whole((20, 40, 48))))
    part = part_of(open_volume(tmp_path / "raw.npy", (10, 10, 10)), (2, 9))
    again = pickle.loads(pickle.dumps(part))
    assert np.array_equal(again.read(Box.whole((7, 40, 48))), part.read(Box.whole((7, 40, 48))))
