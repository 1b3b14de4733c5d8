"""Augmentations: images and labels move together, nothing else changes, and a seed says it all."""

import hashlib
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import map_coordinates

from napari_tokenunify.affinities import DEFAULT_OFFSETS, known_affinities
from napari_tokenunify.data.augment import AugmentConfig, PerturbConfig, augment, geometric, perturb
from napari_tokenunify.errors import AnnotationError

CHANCES = ("flip", "rotate", "transpose", "thicken", "elastic", "slip", "translation", "blur", "section_contrast",
           "volume_contrast", "noise", "saturate", "missing")  # fmt: skip
SYMMETRIES = {
    "flip z": lambda image, labels, _: geometric.flip(image, labels, 0),
    "flip y": lambda image, labels, _: geometric.flip(image, labels, 1),
    "flip x": lambda image, labels, _: geometric.flip(image, labels, 2),
    "rotate": geometric.rotate,
    "rotate any plane": partial(geometric.rotate, isotropic=True),
    "transpose": lambda image, labels, _: geometric.transpose(image, labels),
}
SHIFTS = {
    "slip": partial(geometric.slip, shift=3),
    "translate": partial(geometric.translate, shift=3),
}
GEOMETRIC = {**SYMMETRIES, **SHIFTS, "elastic": geometric.elastic, "thicken": geometric.thicken}
SHAPES = [(6, 12, 12), (5, 12, 17), (8, 8, 8), (1, 4, 3), (2, 1, 1)]
ALL_OFF = AugmentConfig(**dict.fromkeys(CHANCES, 0))
ALL_ON = AugmentConfig(**dict.fromkeys(CHANCES, 1))


def make_crop(shape=(12, 24, 24), seed=0, dtype=np.uint64):
    """Blocky labels, a few of them unlabelled, and a noisy image; both read-only, so that a change in place fails."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 9, [-(-n // 3) for n in shape])
    labels = np.kron(blocks, np.ones((3, 3, 3), int))[tuple(map(slice, shape))].astype(dtype)
    image = (labels.astype(np.float32) / 10 + 0.1 * rng.random(shape, dtype=np.float32)).clip(0, 1)
    image.flags.writeable = labels.flags.writeable = False
    return image, labels


def voxel_numbers(shape):
    """Number every voxel from 1: sent through an augmentation as labels, they say where each voxel came from."""
    return np.arange(1, np.prod(shape) + 1).reshape(shape)


def only(**fields):
    return ALL_OFF.replace(**fields)


def test_mirroring_twice_changes_nothing():
    image, labels = make_crop()
    for axis in range(3):
        once = geometric.flip(image, labels, axis)
        assert not np.array_equal(once[1], labels)
        twice = geometric.flip(*once, axis)
        np.testing.assert_array_equal(twice[0], image)
        np.testing.assert_array_equal(twice[1], labels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("change", SYMMETRIES.values(), ids=SYMMETRIES)
def test_symmetries_keep_every_voxel_and_move_image_and_labels_alike(change, shape):
    image, labels = make_crop(shape)
    for seed in range(8):
        moved, source = change(image, voxel_numbers(shape), np.random.default_rng(seed))
        assert sorted(source.ravel()) == list(range(1, image.size + 1))
        np.testing.assert_array_equal(moved, image.ravel()[source - 1])
        _, moved_labels = change(image, labels, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved_labels, labels.ravel()[source - 1])


def test_crops_that_are_not_square_turn_by_half_and_are_not_transposed():
    image, labels = make_crop((4, 6, 9))
    for seed in range(5):
        turned, _ = geometric.rotate(image, labels, np.random.default_rng(seed))
        np.testing.assert_array_equal(turned, image[:, ::-1, ::-1])
    np.testing.assert_array_equal(geometric.transpose(image, labels)[0], image)


def test_sections_stay_sections_unless_voxels_are_cubes():
    numbers = voxel_numbers((6, 6, 6))
    image = np.zeros(numbers.shape, np.float32)
    sections = (numbers - 1) // 36

    def turns_z(isotropic, seed):
        _, turned = geometric.rotate(image, sections, np.random.default_rng(seed), isotropic=isotropic)
        return not np.array_equal(turned, sections)

    assert not any(turns_z(False, seed) for seed in range(20))
    assert any(turns_z(True, seed) for seed in range(20))


@pytest.mark.parametrize("change", SHIFTS.values(), ids=SHIFTS)
def test_misaligned_sections_show_their_own_image_and_are_unlabelled_where_nothing_is_known(change):
    image, labels = make_crop((6, 20, 15))
    numbers = voxel_numbers(image.shape)
    for seed in range(20):
        moved, source = change(image, numbers, np.random.default_rng(seed))
        known = source > 0
        assert len(np.unique(source[known])) == known.sum()
        np.testing.assert_array_equal(moved[known], image.ravel()[source[known] - 1])
        _, moved_labels = change(image, labels, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved_labels, np.where(known, labels.ravel()[source - 1], 0))


@pytest.mark.parametrize(("change", "count"), [("slip", {1}), ("translate", set(range(1, 6)))])
def test_a_slip_moves_one_section_and_a_translation_all_that_follow(change, count):
    image = np.zeros((6, 21, 21), np.float32)
    image[:, 10, 10] = 1
    seen = set()
    for seed in range(200):
        moved, left = SHIFTS[change](image, np.ones(image.shape, int), np.random.default_rng(seed))
        shifts = np.argwhere(moved)[:, 1:] - 10
        hit = np.flatnonzero(shifts.any(axis=1))
        assert len(hit) in count
        assert change == "slip" or list(hit) == list(range(6 - len(hit), 6))
        assert len(np.unique(shifts[hit], axis=0)) == 1
        y, x = shifts[hit[0]]
        drawn_in = 21 * (abs(y) + abs(x)) - abs(y * x)
        assert (left == 0).sum() == len(hit) * drawn_in
        seen.add((y, x))
    assert np.abs(list(seen)).max() == 3
    assert len(seen) > 40  # of 48: every direction occurs


def test_an_elastic_label_is_that_of_the_nearest_voxel_and_no_voxel_moves_too_far():
    shape = (20, 70, 90)
    limit = 5.0
    for axis in (1, 2):
        position = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
        seen = []
        for seed in range(3):
            moved, labels = geometric.elastic(
                (position / 100).astype(np.float32), position + 1, np.random.default_rng(seed), displacement=limit
            )
            known = labels > 0
            seen.append(np.abs(moved * 100 - position)[known].max())
            assert np.abs(moved * 100 - (labels - 1.0))[known].max() <= 0.5 + 1e-4
            inner = moved[:, 6:-6, 6:-6]
            assert np.diff(inner, axis=axis).min() > 0, "the tissue is folded"
        assert 1 < max(seen) <= limit + 1e-4


def test_what_an_elastic_bend_draws_in_from_outside_is_unlabelled():
    image, ones = np.ones((8, 64, 64), np.float32), np.ones((8, 64, 64), np.uint16)
    _, labels = geometric.elastic(image, ones, np.random.default_rng(1), displacement=8)
    assert 0 < (labels == 0).mean() < 0.1
    assert labels[:, 9:-9, 9:-9].all()


def test_reading_between_pixels_agrees_with_scipy():
    image, labels = make_crop((3, 11, 17))
    rng = np.random.default_rng(0)
    y, x = rng.uniform(-5, 15, (2, 9, 13)).astype(np.float32)
    x += 3
    expected = map_coordinates(image[1], (y, x), order=1, mode="mirror")
    np.testing.assert_allclose(geometric._read_linear(image[1], y, x), expected, atol=2e-6)
    expected = map_coordinates(labels[1], (y, x), order=0, mode="constant", cval=0)
    inside = (y > -0.5) & (y < 10.5) & (x > -0.5) & (x < 16.5)  # scipy counts the outer half voxel as outside
    edge = (y < 0) | (y > 10) | (x < 0) | (x > 16)
    read = geometric._read_nearest(labels[1], y, x)
    np.testing.assert_array_equal(read[~edge], expected[~edge])
    assert not read[~inside].any()


def test_thickened_sections_share_image_and_labels_within_each_group():
    image, labels = make_crop((13, 6, 6))
    numbers = np.broadcast_to(np.arange(1, 14)[:, None, None], image.shape)
    kinds, sizes = set(), set()
    for seed in range(40):
        thick, source = geometric.thicken(image, numbers, np.random.default_rng(seed))
        _, thick_labels = geometric.thicken(image, labels, np.random.default_rng(seed))
        groups = [np.flatnonzero(source[:, 0, 0] == middle) for middle in np.unique(source)]
        sizes.add(max(map(len, groups)))
        for group in groups:
            middle = group[len(group) // 2]
            assert np.all(np.diff(group) == 1)
            assert np.all(source[group] == middle + 1)
            np.testing.assert_array_equal(thick_labels[group], labels[[middle] * len(group)])
            mean = np.allclose(thick[group], image[group].mean(axis=0))
            assert mean or np.array_equal(thick[group], image[[middle] * len(group)])
            if len(group) > 1:
                kinds.add(mean)
    assert kinds == {True, False}
    assert sizes == {2, 3, 4}


def test_thickening_keeps_the_labels_of_sparsely_painted_sections():
    image, _ = make_crop((12, 4, 4))
    labels = np.zeros(image.shape, np.uint16)
    labels[5] = 7
    for seed in range(20):
        _, thick = geometric.thicken(image, labels, np.random.default_rng(seed))
        painted = np.flatnonzero(thick.any(axis=(1, 2)))
        assert 5 in painted
        assert len(painted) <= 4


@pytest.mark.parametrize("change", GEOMETRIC.values(), ids=GEOMETRIC)
def test_affinities_of_moved_labels_say_which_voxels_belonged_together_before(change):
    image, labels = make_crop((6, 9, 9))
    labels = labels + 1  # all painted, as thickening looks at that
    offsets = (*DEFAULT_OFFSETS, (1, -2, 0))
    for seed in range(3):
        _, source = change(image, voxel_numbers(image.shape), np.random.default_rng(seed))
        _, moved = change(image, labels, np.random.default_rng(seed))
        target, mask = known_affinities(moved, offsets)
        for channel, offset in enumerate(offsets):
            for p in np.ndindex(image.shape):
                q = tuple(np.add(p, offset))
                inside = all(0 <= i < n for i, n in zip(q, image.shape, strict=True))
                known = inside and source[p] > 0 and source[q] > 0
                joined = known and labels.flat[source[p] - 1] == labels.flat[source[q] - 1]
                assert (target[channel][p], mask[channel][p]) == (joined, known)


def test_with_all_chances_at_0_a_copy_comes_back():
    image, labels = make_crop()
    same, same_labels = augment(image, labels, np.random.default_rng(0), ALL_OFF, (10, 10, 10))
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(same_labels, labels)
    assert not np.shares_memory(same, image)
    assert not np.shares_memory(same_labels, labels)


@pytest.mark.parametrize("name", CHANCES)
def test_with_its_chance_at_1_an_augmentation_always_acts(name):
    image, labels = make_crop()
    for seed in range(10):
        changed, _ = augment(image, labels, np.random.default_rng(seed), only(**{name: 1}), (10, 10, 10))
        assert not np.array_equal(changed, image)


def test_flips_are_drawn_for_each_axis():
    image, labels = make_crop()
    flips = {augment(image, labels, np.random.default_rng(seed), only(flip=0.5))[0].tobytes() for seed in range(100)}
    assert len(flips) == 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_every_result_has_the_shape_and_type_of_its_input(shape, dtype):
    image, labels = make_crop(shape, dtype=dtype)
    for config in (ALL_ON, AugmentConfig()):
        for seed in range(5):
            changed, left = augment(image, labels, np.random.default_rng(seed), config, (20, 20, 20))
            assert changed.shape == left.shape == shape
            assert (changed.dtype, left.dtype) == (np.float32, dtype)
            assert changed.flags.c_contiguous
            assert left.flags.c_contiguous
            assert np.isfinite(changed).all()
            assert changed.min() >= 0
            assert changed.max() <= 1
            assert set(np.unique(left)) <= {0, *np.unique(labels)}


@pytest.mark.parametrize("change", GEOMETRIC.values(), ids=GEOMETRIC)
def test_each_geometric_result_is_contiguous_and_keeps_large_ids(change):
    image, labels = make_crop((6, 9, 9))
    labels = labels + np.uint64(2**63)
    moved, left = change(image, labels, np.random.default_rng(0))
    assert moved.flags.c_contiguous
    assert left.flags.c_contiguous
    assert (moved.dtype, left.dtype) == (np.float32, np.uint64)
    assert set(np.unique(left)) <= {0, *np.unique(labels)}


def test_sections_are_thickened_only_where_they_are_known_to_be_thin():
    image, labels = make_crop()

    def changes(voxel_size_nm):
        return not np.array_equal(
            augment(image, labels, np.random.default_rng(3), only(thicken=1), voxel_size_nm)[0], image
        )

    assert changes((8, 8, 8))
    assert changes((30, 4, 4))
    assert not changes((40, 4, 4))
    assert not changes(None)


def test_switching_one_augmentation_off_leaves_the_others_as_they_were():
    image, labels = make_crop()
    config = AugmentConfig(elastic=1, slip=1, rotate=1)
    for fields in ({"noise": 1}, {"noise": 0}, {"missing": 0, "volume_contrast": 0}):
        first, second = np.random.default_rng(5), np.random.default_rng(5)
        _, labels_first = augment(image, labels, first, config, (8, 8, 8))
        _, labels_second = augment(image, labels, second, config.replace(**fields), (8, 8, 8))
        np.testing.assert_array_equal(labels_first, labels_second)
        assert first.random() == second.random()


DIGEST = """
import hashlib, numpy as np
from napari_tokenunify.data.augment import AugmentConfig, augment
rng = np.random.default_rng(11)
image = rng.random((16, 48, 48), dtype=np.float32)
labels = rng.integers(0, 9, image.shape)
digest = hashlib.sha256()
for seed in {seeds}:
    for array in augment(image, labels, np.random.default_rng(seed), AugmentConfig(elastic=1), (8, 8, 8)):
        digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_a_seed_gives_the_same_crop_in_every_process():
    rng = np.random.default_rng(11)
    image = rng.random((16, 48, 48), dtype=np.float32)
    labels = rng.integers(0, 9, image.shape)
    crops = {
        seed: augment(image, labels, np.random.default_rng(seed), AugmentConfig(elastic=1), (8, 8, 8))
        for seed in (7, 3, 5)  # in another order than the other process
    }
    digest = hashlib.sha256(b"".join(array.tobytes() for seed in (3, 5, 7) for array in crops[seed])).hexdigest()
    code = DIGEST.format(seeds=(3, 5, 7))
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest


def test_numpys_global_generator_is_left_alone():
    image, labels = make_crop()
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    augment(image, labels, np.random.default_rng(0), ALL_ON, (8, 8, 8))
    perturb(image, np.random.default_rng(0), PerturbConfig(probability=1))
    np.testing.assert_array_equal(before, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002


def test_labels_of_another_shape_are_refused_in_one_sentence():
    image, labels = make_crop()
    with pytest.raises(AnnotationError, match=r"same shape \(z, y, x\), not \(12, 24, 24\) and \(11, 24, 24\)"):
        augment(image, labels[1:], np.random.default_rng(0), AugmentConfig())


def test_settings_explain_themselves_and_refuse_nonsense():
    assert all(field.description for field in AugmentConfig.model_fields.values())
    assert all(field.description for field in PerturbConfig.model_fields.values())
    for wrong in ({"flip": 1.5}, {"misalignment": 0}, {"thicken_sections": 1}, {"no_such": 1}):
        with pytest.raises(ValidationError):
            AugmentConfig(**wrong)
