"""Changes of grey values, and the perturbations of pre-training: how strong, how many sections, and nothing moves."""

from functools import partial

import numpy as np
import pytest

from napari_tokenunify.data.augment import PerturbConfig, intensity, perturb

INTENSITY = {
    "contrast": intensity.change_contrast,
    "contrast per section": partial(intensity.change_contrast, per_section=True),
    "noise": intensity.add_noise,
    "blur": intensity.blur_sections,
    "saturate": intensity.saturate_sections,
}


def make_image(shape, seed=0):
    """Noise, read-only, so that a change in place fails."""
    image = np.random.default_rng(seed).random(shape, dtype=np.float32)
    image.flags.writeable = False
    return image


@pytest.mark.parametrize("change", INTENSITY.values(), ids=INTENSITY)
def test_grey_values_change_and_stay_between_0_and_1(change):
    image = make_image((9, 16, 16))
    for seed in range(10):
        changed = change(image, np.random.default_rng(seed))
        assert (changed.dtype, changed.shape) == (np.float32, image.shape)
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert not np.array_equal(changed, image)


def test_contrast_keeps_the_order_of_grey_values_and_the_limits():
    ramp = np.linspace(0.2, 0.8, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    for seed in range(20):
        assert np.all(np.diff(intensity.change_contrast(ramp, np.random.default_rng(seed)).ravel()) > 0)
        only_brighter = intensity.change_contrast(
            ramp, np.random.default_rng(seed), contrast=0, brightness=0.1, gamma=0, per_section=True
        )
        added = only_brighter - ramp
        assert np.abs(added).max() <= 0.1 + 1e-6
        np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-6)
        assert len(np.unique(added[:, 0, 0].round(4))) == 3
    same = intensity.change_contrast(ramp, np.random.default_rng(0), contrast=0, brightness=0, gamma=0)
    np.testing.assert_allclose(same, ramp, atol=1e-6)


def test_noise_has_the_strength_asked_for():
    grey = np.full((20, 40, 40), 0.5, np.float32)
    spread = [intensity.add_noise(grey, np.random.default_rng(seed), sigma=0.1).std() for seed in range(30)]
    assert max(spread) <= 0.102
    assert min(spread) < 0.02 < 0.08 < max(spread)


@pytest.mark.parametrize("name", ["blur", "saturate"])
def test_section_defects_hit_few_sections_and_no_two_neighbours(name):
    image = make_image((20, 8, 8))
    numbers = set()
    for seed in range(60):
        changed = INTENSITY[name](image, np.random.default_rng(seed), share=0.25)
        hit = np.flatnonzero((changed != image).any(axis=(1, 2)))
        numbers.add(len(hit))
        assert len(hit) < 2 or np.diff(hit).min() >= 2
    assert numbers == {1, 2, 3, 4, 5}


def test_blurred_sections_are_flatter_and_saturated_ones_near_black_or_white():
    rng = np.random.default_rng(0)
    image = rng.random((20, 16, 16), dtype=np.float32)
    blurred = intensity.blur_sections(image, rng)
    hit = (blurred != image).any(axis=(1, 2))
    assert (blurred[hit].std(axis=(1, 2)) < 0.8 * image[hit].std(axis=(1, 2))).all()
    ends = set()
    for _ in range(10):
        changed = intensity.saturate_sections(image, rng)
        means = changed[(changed != image).any(axis=(1, 2))].mean(axis=(1, 2))
        assert np.all((means < 0.25) | (means > 0.75))
        ends |= set(means > 0.5)
    assert ends == {True, False}


@pytest.mark.parametrize("keep", [True, False])
def test_lost_sections_are_black_or_grey_and_keep_their_labels_if_asked(keep):
    image = make_image((20, 8, 8))
    labels = np.random.default_rng(1).integers(1, 9, image.shape)
    values = set()
    for seed in range(20):
        gapped, left = intensity.lose_sections(image, labels, np.random.default_rng(seed), keep_labels=keep)
        hit = (gapped != image).any(axis=(1, 2))
        assert 1 <= hit.sum() <= 2
        assert np.all(gapped[hit] == gapped[hit][:, :1, :1])
        values |= set(gapped[hit][:, 0, 0].tolist())
        np.testing.assert_array_equal(left[~hit], labels[~hit])
        np.testing.assert_array_equal(left[hit], labels[hit] if keep else 0)
    assert values == {0.0, float(image.mean())}


def only_kind(**kind):
    return PerturbConfig(**{"probability": 1, "noise": False, "blur": False, "cutout": False, **kind})


def test_half_of_the_crops_of_pretraining_are_perturbed():
    image = make_image((6, 12, 12))
    rng = np.random.default_rng(0)
    share = np.mean([not np.array_equal(perturb(image, rng, PerturbConfig()), image) for _ in range(400)])
    assert 0.42 < share < 0.58
    np.testing.assert_array_equal(perturb(image, rng, only_kind()), image)
    np.testing.assert_array_equal(perturb(image, rng, PerturbConfig(probability=0)), image)


def test_perturbing_noise_is_as_strong_as_in_the_paper():
    grey = np.full((16, 40, 40), 0.5, np.float32)
    spread = [perturb(grey, np.random.default_rng(seed), only_kind(noise=True)).std() for seed in range(60)]
    assert 0.009 < min(spread) < 0.05
    assert 0.15 < max(spread) < 0.202


def test_perturbing_blur_stays_within_its_section():
    image = np.zeros((5, 31, 31), np.float32)
    image[2, 15, 15] = 1
    for seed in range(10):
        blurred = perturb(image, np.random.default_rng(seed), only_kind(blur=True))
        assert not np.delete(blurred, 2, axis=0).any()
        assert blurred.sum() == pytest.approx(1, abs=1e-4)
        rows = np.flatnonzero(blurred[2].any(axis=1))
        assert len(rows) <= 9
        assert len(rows) == len(np.flatnonzero(blurred[2].any(axis=0)))


@pytest.mark.parametrize("shape", [(16, 160, 160), (4, 12, 9)])
def test_perturbing_cuts_black_boxes_out(shape):
    shares = []
    for seed in range(10):
        cut = perturb(np.ones(shape, np.float32), np.random.default_rng(seed), only_kind(cutout=True))
        assert set(np.unique(cut)) <= {0.0, 1.0}
        shares.append((cut == 0).mean())
    assert shape[0] < 16 or 0.04 < min(shares) < max(shares) < 0.65
    assert min(shares) > 0
