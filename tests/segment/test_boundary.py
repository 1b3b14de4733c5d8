from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.affinities import DEFAULT_OFFSETS
from napari_tokenunify.config import FragmentsConfig
from napari_tokenunify.segment.boundary import boundary_of, fitting_threshold, nearest_affinities, usual_threshold
from napari_tokenunify.segment.fragments import fragments


def unsure(boundary: float, membrane: float = 0.2) -> np.ndarray:
    """Return the boundary of tissue, a share of which is membrane, by a network that gives it so much."""
    return np.where(np.random.default_rng(0).random((20, 30, 30)) < membrane, boundary, 0.1).astype(np.float32)


@pytest.mark.parametrize("sections", [False, True])
def test_a_network_that_is_sure_of_its_boundaries_has_the_usual_threshold(*, sections: bool) -> None:
    assert fitting_threshold([unsure(0.97)], sections=sections) == usual_threshold(sections=sections)


@pytest.mark.parametrize("boundary", [0.5, 0.7, 0.9])
def test_where_boundaries_are_unsure_the_threshold_is_nine_tenths_of_the_surest(boundary: float) -> None:
    found = fitting_threshold([unsure(boundary)], sections=False)
    assert found == pytest.approx(0.9 * np.percentile(unsure(boundary), 99), abs=1e-3)


@pytest.mark.parametrize("sections", [False, True])
def test_tissue_without_a_membrane_is_not_cut_along_its_noise(*, sections: bool) -> None:
    found = fitting_threshold([unsure(0.1)], sections=sections)
    assert found == pytest.approx(usual_threshold(sections=sections) / 3)


def test_neither_resin_nor_a_crack_decides() -> None:
    resin, tissue, crack = np.full((60, 30, 30), 0.1, np.float32), unsure(0.6), np.ones((9, 9, 9), np.float32)
    alone = fitting_threshold([tissue], sections=False)
    assert fitting_threshold([tissue, *[resin] * 26], sections=False) == alone
    assert fitting_threshold([tissue, tissue, crack, resin], sections=False) == alone
    assert fitting_threshold([unsure(0.97), *[resin] * 26], sections=False) == usual_threshold(sections=False)


def test_without_a_voxel_the_usual_threshold_is_taken() -> None:
    assert fitting_threshold([np.empty(0, np.float32)], sections=False) == usual_threshold(sections=False)


def test_a_network_that_has_learnt_little_gives_fragments_that_keep_cells_apart() -> None:
    cells = np.zeros((16, 32, 32), np.float32)
    cells[:, ::8] = cells[:, :, ::8] = 1  # walls
    affinities = np.repeat(1 - np.where(cells == 1, 0.7, 0.15)[None], 3, axis=0).astype(np.float32)
    at_the_usual = fragments(affinities, DEFAULT_OFFSETS, FragmentsConfig(boundary_threshold=0.85))
    fitting = fragments(affinities, DEFAULT_OFFSETS, FragmentsConfig())
    assert at_the_usual.max() == 1
    assert len(np.unique(fitting[8, 4::8, 4::8])) == 16


def test_the_boundary_is_that_of_the_weakest_link_or_in_sections_of_the_mean_of_two() -> None:
    nearest = np.array([0.2, 0.4, 0.8], np.float32).reshape(3, 1, 1, 1)
    assert boundary_of(nearest, sections=False).item() == pytest.approx(0.8)
    assert boundary_of(nearest, sections=True).item() == pytest.approx(0.4)


def test_the_first_plane_is_as_the_next() -> None:
    affinities = np.random.default_rng(0).random((3, 4, 5, 6), np.float32)
    nearest = nearest_affinities(affinities, DEFAULT_OFFSETS, sections=False)
    np.testing.assert_array_equal(nearest[0, 0], nearest[0, 1])
    np.testing.assert_array_equal(nearest[2, :, :, 1:], affinities[2, :, :, 1:])
