import hashlib
import itertools

import numpy as np
import pytest
from scipy import ndimage

from napari_tokenunify.data import SyntheticEM, open_volume, synthetic_em, write_sample
from napari_tokenunify.data.synthetic import SMALLEST_NEURON, _neurons
from napari_tokenunify.errors import ConfigError, VolumeError


@pytest.fixture(scope="module")
def block_face():
    return synthetic_em((32, 128, 128), (10.0, 10.0, 10.0), seed=1)


@pytest.fixture(scope="module")
def thin_sections():
    return synthetic_em((8, 192, 192), (40.0, 4.0, 4.0), seed=1)


@pytest.fixture(scope="module", params=["block_face", "thin_sections"])
def tissue(request):
    return request.getfixturevalue(request.param)


def borders(labels):
    """Return the pixels of each section that have another neuron to the left or above."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :, 1:] |= labels[:, :, 1:] != labels[:, :, :-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return edge


def test_a_seed_gives_the_same_bytes_everywhere():
    small = synthetic_em((12, 64, 64), (10.0, 10.0, 10.0), seed=7)
    assert (small.raw.dtype, small.labels.dtype) == (np.uint8, np.uint32)
    # Where this fails because the tissue was changed on purpose, raise the edition of the synthetic samples.
    assert hashlib.sha256(small.labels.astype("<u4").tobytes()).hexdigest()[:16] == "2ef1c5c59c49b649"
    assert hashlib.sha256(small.raw.tobytes()).hexdigest()[:16] == "a0d0ce12d5cc1d9b"


def test_another_seed_makes_other_tissue():
    one, other = (synthetic_em((4, 32, 32), seed=seed) for seed in (0, 1))
    assert not np.array_equal(one.raw, other.raw)
    assert not np.array_equal(one.labels, other.labels)


def test_every_voxel_has_a_neuron_and_each_neuron_is_one_part_of_100_voxels_or_more(tissue):
    sizes = np.bincount(tissue.labels.ravel())
    assert sizes[0] == 0
    assert sizes[1:].min() >= SMALLEST_NEURON
    boxes = ndimage.find_objects(tissue.labels)
    assert [ndimage.label(tissue.labels[box] == i)[1] for i, box in enumerate(boxes, 1)] == [1] * len(boxes)


def test_neurons_are_many_and_of_all_sizes_and_some_cross_the_volume(block_face):
    labels = block_face.labels
    sizes = np.sort(np.bincount(labels.ravel())[1:])
    assert len(sizes) > 20
    assert np.percentile(sizes, 90) > 10 * np.percentile(sizes, 10)
    assert sizes[-1] < 0.4 * labels.size
    assert all(np.intersect1d(labels.take(0, axis), labels.take(-1, axis)).size for axis in (0, 2))


def test_neurons_are_parted_by_dark_membranes_about_as_thick_as_real_ones(tissue):
    size = tissue.voxel_size_nm[2]
    raw = tissue.raw.astype(float)
    away = np.stack([ndimage.distance_transform_edt(~edge) for edge in borders(tissue.labels)]) * size
    at_membrane, beside, inside = (raw[(away >= a) & (away < b)].mean() for a, b in ((0, 6), (15, 25), (50, 90)))
    assert at_membrane < inside - 35
    assert at_membrane + 15 < beside <= inside + 5


def test_grey_values_are_spread_as_in_fib25(block_face):
    raw = block_face.raw.astype(float)  # FIB-25: mean 130, deviation 34, 1 % 70, 99 % 196
    assert 115 < raw.mean() < 145
    assert 28 < raw.std() < 42
    assert 55 < np.percentile(raw, 1) < 85
    assert 175 < np.percentile(raw, 99) < 215
    for shift, real in ((1, 0.96), (4, 0.73)):  # FIB-25's correlation along x
        step = raw[:, :, shift:] - raw[:, :, :-shift]
        assert 1 - (step**2).mean() / 2 / raw.var() == pytest.approx(real, abs=0.15)


def test_thin_sections_differ_in_brightness(thin_sections, block_face):
    assert np.ptp(thin_sections.raw.mean((1, 2))) > 5
    assert np.ptp(block_face.raw.mean((1, 2))) < np.ptp(thin_sections.raw.mean((1, 2)))


def best_shift(fixed, moved, reach=4):
    """Return the shift (y, x) at which `moved` lies best on `fixed`, by trying all."""
    inner = (slice(reach, -reach),) * 2
    scores = {
        (dy, dx): (fixed[inner] * np.roll(moved, (dy, dx), (0, 1))[inner]).sum()
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
    }
    return max(scores, key=scores.__getitem__)


def test_labels_follow_the_shift_of_their_section(thin_sections):
    edges = borders(thin_sections.labels).astype(float)
    for edge, section in zip(edges, thin_sections.raw.astype(float), strict=True):
        dy, dx = best_shift(255 - section, edge)
        assert max(abs(dy), abs(dx)) <= 1


@pytest.mark.parametrize(("nm", "moves"), [(0.0, False), (12.0, True)])
def test_sections_are_misaligned_only_where_asked_for(nm, moves):
    sections = synthetic_em((5, 160, 160), (10.0, 4.0, 4.0), seed=3, misalignment_nm=nm).labels
    edges = [ndimage.gaussian_filter(edge.astype(float), 1.5) for edge in borders(sections)]
    shifts = [best_shift(a, b) for a, b in itertools.pairwise(edges)]
    assert (max(max(abs(dy), abs(dx)) for dy, dx in shifts) >= 2) == moves


def test_specks_join_a_neighbour_and_larger_parts_stay_apart():
    rng = np.random.default_rng(0)
    coarse = rng.integers(1, 4, (4, 6, 6)).astype(np.uint16)
    labels = coarse.repeat(5, 0).repeat(5, 1).repeat(5, 2)
    labels[rng.random(labels.shape) < 0.05] = 9
    neurons = _neurons(labels)
    parts = np.zeros(labels.shape, int)
    for value in np.unique(labels):
        found, count = ndimage.label(labels == value)
        parts[found > 0] = found[found > 0] + parts.max()
        assert count
    sizes = np.bincount(parts.ravel())
    large = np.flatnonzero(sizes >= SMALLEST_NEURON)
    heirs = [np.unique(neurons[parts == part]).tolist() for part in large]
    assert all(len(ids) == 1 for ids in heirs)
    assert sorted(ids[0] for ids in heirs) == list(range(1, len(large) + 1))
    assert neurons.max() == len(large)


def test_a_speck_whose_heir_is_a_speck_goes_to_the_heir_of_that():
    labels = np.full((4, 10, 10), 1, np.uint16)
    labels[:, :5, :3], labels[:, :5, 3:7], labels[:, :5, 7:] = 2, 3, 4  # the middle one joins 1, its sides the middle
    assert np.unique(_neurons(labels)).tolist() == [1]


def test_a_volume_smaller_than_a_neuron_is_one_neuron():
    assert np.unique(_neurons(np.arange(27, dtype=np.uint16).reshape(3, 3, 3))).tolist() == [1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"shape": (0, 8, 8)}, "shape"),
        ({"voxel_size_nm": (10.0, -1.0, 10.0)}, "voxel size"),
        ({"seed": -1}, "seed"),
        ({"misalignment_nm": -2.0}, "misalignment"),
    ],
)
def test_impossible_numbers_are_said_in_one_sentence(arguments, said):
    with pytest.raises(ConfigError, match=rf"is no {said}.*: give .*\."):
        synthetic_em(**{"shape": (4, 16, 16), **arguments})


# -- written as OME-Zarr --------------------------------------------------------------------------------------


def test_a_written_sample_opens_as_two_volumes_with_levels(tmp_path, block_face):
    folder = write_sample(tmp_path / "new" / "tissue.zarr", block_face)
    raw, labels = open_volume(folder), open_volume(f"{folder}::labels/neurons")
    assert raw.format == labels.format == "OME-Zarr 0.5"
    assert np.array_equal(raw.dask().compute(), block_face.raw)
    assert np.array_equal(labels.dask().compute(), block_face.labels)
    for volume in (raw, labels):
        assert [level.shape for level in volume.levels] == [(32, 128, 128), (16, 64, 64)]
        assert [level.voxel_size_nm for level in volume.levels] == [(10, 10, 10), (20, 20, 20)]
    assert np.abs(raw.dask(1).compute().mean() - block_face.raw.mean()) < 0.1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tissue.zarr"]


def test_levels_of_thin_sections_keep_all_sections(tmp_path):
    odd = SyntheticEM(np.zeros((3, 131, 130), np.uint8), np.ones((3, 131, 130), np.uint32), (40.0, 4.0, 4.0))
    raw = open_volume(write_sample(tmp_path / "odd.zarr", odd))
    assert [level.shape for level in raw.levels] == [(3, 131, 130), (3, 65, 65)]
    assert raw.levels[1].voxel_size_nm == (40, 8, 8)


def test_the_library_ome_zarr_reads_what_is_written(tmp_path, block_face):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    folder = write_sample(tmp_path / "tissue.zarr", block_face)
    nodes = [node for node in Reader(parse_url(str(folder)))() if node.data]
    raw, labels = nodes
    np.testing.assert_array_equal(np.asarray(raw.data[0]), block_face.raw)
    np.testing.assert_array_equal(np.asarray(labels.data[0]), block_face.labels)
    for node in nodes:
        assert [(axis["name"], axis["unit"]) for axis in node.metadata["axes"]] == [(a, "nanometer") for a in "zyx"]
        assert node.metadata["coordinateTransformations"][0][0]["scale"] == list(block_face.voxel_size_nm)


def test_a_sample_is_not_written_over_another(tmp_path, block_face):
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(VolumeError, match="is there already, and is not overwritten"):
        write_sample(folder, block_face)
    assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path, block_face, monkeypatch):
    folder = tmp_path / "tissue.zarr"

    def full(*_):
        assert not folder.exists()  # nobody can take what is unfinished for a sample
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_tokenunify.data.labelled_zarr._put", full)
    with pytest.raises(VolumeError, match=r"cannot be written \(No space left on device\); make room"):
        write_sample(folder, block_face)
    assert list(tmp_path.iterdir()) == []
