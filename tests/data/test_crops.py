"""Crops: where they lie, what they hold, and that nothing but seed and number decides."""

import pickle
from collections import Counter

import numpy as np
import pytest
import zarr

from napari_tokenunify.affinities import known_affinities
from napari_tokenunify.data.annotations import Annotations, open_annotations
from napari_tokenunify.data.crops import CropSampler
from napari_tokenunify.data.intensity import IntensityRange
from napari_tokenunify.data.places import find_places
from napari_tokenunify.data.volume import Volume, open_volume
from napari_tokenunify.errors import AnnotationError, ConfigError

SHAPE = (20, 60, 70)
CROP = (4, 16, 16)
GREY = IntensityRange(0.0, 255.0)
RARE, COMMON, LARGE, BOUNDARY = 2**40, 7, 8, 9


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


@pytest.fixture
def labels():
    """Two large neurons, one of six voxels, a little boundary; most sections unlabelled."""
    labels = np.zeros(SHAPE, np.uint64)
    labels[5:8, :30], labels[5:8, 34:], labels[5:8, 2:4, 60] = COMMON, LARGE, BOUNDARY
    labels[12, 40, 10:16] = RARE
    return labels


def sampler(image, labels, **options):
    annotations = None if labels is None else Annotations.from_array(labels, boundary_id=BOUNDARY)
    return CropSampler(Volume.from_array(image), annotations, **{"shape": CROP, "intensity": GREY, **options})


def same(a, b):
    return a.box == b.box and (a.image == b.image).all() and (a.labels == b.labels).all()


def test_a_crop_is_cut_from_image_and_labels(image, labels):
    crops = sampler(image, labels)
    for crop in (crops[i] for i in range(40)):
        assert crop.box.clipped(SHAPE) == crop.box
        assert (crop.image.dtype, crop.labels.dtype) == (np.float32, np.uint64)
        np.testing.assert_array_equal(crop.image, GREY.normalise(image[crop.box.slices]))
        np.testing.assert_array_equal(crop.labels, labels[crop.box.slices])


@pytest.mark.parametrize("offsets", [[(-1, 0, 0), (0, -1, 0), (0, 0, -1)], [(0, 0, 1)], [(0, 9, -9), (0, 99, 0)]])
@pytest.mark.parametrize("margin", [(0, 0, 0), (1, 3, 2)])
def test_every_crop_holds_a_known_pair_within_its_margin(image, labels, offsets, margin):
    crops = sampler(image, labels, offsets=offsets, margin=margin)
    within = tuple(slice(m, n - m) for m, n in zip(margin, CROP, strict=True))
    for crop in (crops[i] for i in range(60)):
        assert known_affinities(crop.labels[within], offsets, BOUNDARY)[1].any()
        reach = zip(crop.box.start, crop.box.stop, margin, SHAPE, strict=True)
        assert all(a + m >= 0 and b - m <= n for a, b, m, n in reach)


def test_a_rare_neuron_is_drawn_as_often_as_a_large_one(image, labels):
    places = sampler(image, labels).places
    rng = np.random.default_rng(1)
    drawn = Counter(int(labels[tuple(places.draw(rng, 0.0)[0])]) for _ in range(3000))
    assert set(drawn) == {RARE, COMMON, LARGE}
    assert all(abs(count - 1000) < 120 for count in drawn.values())  # four standard deviations


def test_borders_have_their_share(image, labels):
    places = sampler(image, labels).places
    target, mask = known_affinities(labels, [(-1, 0, 0), (0, -1, 0), (0, 0, -1)], BOUNDARY)
    apart = {
        tuple(sorted(((z, y, x), (z - (c == 0), y - (c == 1), x - (c == 2)))))
        for c, z, y, x in np.argwhere(mask & ~target).tolist()
    }
    for share in (0.0, 0.4, 1.0):
        rng = np.random.default_rng(2)
        pairs = [tuple(sorted(map(tuple, places.draw(rng, share).tolist()))) for _ in range(1000)]
        assert abs(np.mean([pair in apart for pair in pairs]) - share) < 0.07
    assert {tuple(sorted(map(tuple, pair))) for pair in places.borders.tolist()} <= apart


def test_the_known_pair_is_not_always_in_the_middle(image, labels):
    crops = sampler(image, labels, border_share=0.0)
    starts = [crop.box.start for crop in (crops[i] for i in range(300)) if (crop.labels == RARE).any()]
    assert {z for z, _, _ in starts} == {9, 10, 11, 12}
    assert len({y for _, y, _ in starts}) > 10


def test_places_are_known_pairs_whatever_the_blocks(labels, monkeypatch):
    annotations = Annotations.from_array(labels, boundary_id=BOUNDARY)
    offsets = [(-1, 0, 0), (0, -2, 1)]
    whole = find_places(annotations, offsets, seed=3)
    monkeypatch.setattr("napari_tokenunify.data.label_blocks._BLOCK_VOXELS", 2000)
    monkeypatch.setattr("napari_tokenunify.data.places._PENDING_ROWS", 100)
    blocks = find_places(annotations, offsets, seed=3)
    _, mask = known_affinities(labels, offsets, BOUNDARY)
    for first, second in whole.pairs.tolist():
        step = tuple(b - a for a, b in zip(first, second, strict=True))
        p = first if step in offsets else second
        assert mask[offsets.index(step if p is first else tuple(-s for s in step))][tuple(p)]
    for name in ("neurons", "begins"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(blocks, name))
    np.testing.assert_array_equal(whole.pairs[:, 0], blocks.pairs[:, 0])
    np.testing.assert_array_equal(whole.borders[:, 0], blocks.borders[:, 0])


def test_a_neuron_that_is_only_the_far_end_of_pairs_has_places():
    labels = np.zeros((1, 1, 4), np.uint8)
    labels[0, 0, :2] = 1, 2
    assert find_places(Annotations.from_array(labels), [(0, 0, 1)]).neurons.tolist() == [1, 2]


def test_places_are_spread_evenly_over_a_neuron():
    labels = np.ones((10, 100, 100), np.uint8)
    counts = np.zeros(10)
    for seed in range(20):
        counts += np.bincount(
            find_places(Annotations.from_array(labels), [(0, 0, 1)], seed).pairs[:, 0, 0], minlength=10
        )
    assert counts.sum() == 20 * 64
    assert (abs(counts - 128) < 50).all()


def test_pairs_lead_into_all_directions():
    places = find_places(Annotations.from_array(np.ones((9, 9, 9), np.uint8)), [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
    steps = Counter(map(tuple, np.diff(places.pairs, axis=1)[:, 0].tolist()))
    assert len(steps) == 6
    assert min(steps.values()) > 3


def test_of_very_many_neurons_fewer_places_are_kept(monkeypatch):
    monkeypatch.setattr("napari_tokenunify.data.places.MOST_PLACES", 500)
    labels = np.arange(1, 101).repeat(100).reshape(1, 100, 100)
    places = find_places(Annotations.from_array(labels), [(0, 0, 1)])
    assert np.diff(places.begins).tolist() == [4] * 100


def test_the_same_number_gives_the_same_crop(image, labels):
    first, again = sampler(image, labels), pickle.loads(pickle.dumps(sampler(image, labels)))
    other = sampler(image, labels, seed=1)
    backwards = {i: again[i] for i in reversed(range(8))}
    assert all(same(first[i], backwards[i]) for i in range(8))
    assert any(first[i].box != other[i].box for i in range(8))
    assert len({first[i].box for i in range(8)}) > 4


@pytest.mark.parametrize("shape", [(30, 16, 90), (24, 200, 160)])
def test_past_a_small_volume_the_image_is_mirrored_and_nothing_is_known(image, labels, shape):
    crop = sampler(image, labels, shape=shape)[0]
    past = [(-a, b - n) for a, b, n in zip(crop.box.start, crop.box.stop, SHAPE, strict=True)]
    past = [(max(0, a), max(0, b)) for a, b in past]
    inside = crop.box.clipped(SHAPE).slices
    np.testing.assert_array_equal(crop.image, np.pad(GREY.normalise(image[inside]), past, mode="reflect"))
    np.testing.assert_array_equal(crop.labels, np.pad(labels[inside], past))
    assert crop.image.shape == shape


def test_one_section_is_repeated(image):
    crop = sampler(image[:1], None)[0]
    assert (crop.image == crop.image[0]).all()


def test_without_annotations_boxes_are_anywhere_and_nothing_is_known(image):
    crops = [sampler(image, None)[i] for i in range(200)]
    starts = np.array([crop.box.start for crop in crops])
    assert starts.min(axis=0).tolist()[0] == 0
    assert starts.max(axis=0).tolist()[0] == SHAPE[0] - CROP[0]
    assert abs(starts.mean(axis=0) - (np.array(SHAPE) - CROP) / 2).max() < 4
    assert not any(crop.labels.any() for crop in crops)


def test_blank_regions_are_avoided_but_never_for_ever(image):
    image[:, :, 10:] = 80
    crops = sampler(image, None)
    assert np.mean([crops[i].image.std() > 0.02 for i in range(60)]) > 0.8
    assert sampler(np.full(SHAPE, 5, np.uint8), None)[0].image.std() == 0


def test_crops_come_from_a_lazy_store_on_disk(tmp_path, image, labels):
    for name, array in (("raw", image), ("labels", labels)):
        zarr.save_array(tmp_path / f"{name}.zarr", array)
    volume = open_volume(tmp_path / "raw.zarr")
    annotations = open_annotations(tmp_path / "labels.zarr", volume, BOUNDARY)
    lazy, plain = CropSampler(volume, annotations, CROP, GREY), sampler(image, labels)
    assert all(same(lazy[i], plain[i]) for i in range(10))


def test_annotations_in_which_nothing_is_known_are_refused(image):
    with pytest.raises(AnnotationError, match="nothing is known"):
        sampler(image, np.zeros(SHAPE, np.uint64))


def test_annotations_of_another_shape_are_refused(image, labels):
    with pytest.raises(AnnotationError, match="made on this volume"):
        sampler(image[1:], labels)


@pytest.mark.parametrize(
    "options",
    [{"seed": -1}, {"border_share": 1.5}, {"margin": (2, 0, 0)}, {"margin": (-1, 0, 0)}, {"offsets": [(4, 0, 0)]}],
)
def test_arguments_out_of_range_are_refused(image, labels, options):
    with pytest.raises(ConfigError):
        sampler(image, labels, **options)


def test_there_is_no_crop_before_the_first(image):
    with pytest.raises(IndexError):
        sampler(image, None)[-1]
