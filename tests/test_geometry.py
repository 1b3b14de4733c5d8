from __future__ import annotations

import numpy as np
import pytest

from napari_tokenunify.errors import ConfigError
from napari_tokenunify.geometry import Box, parse_voxel_size, parse_voxel_sizes, voxel_size_mismatch


def test_a_box_written_as_text_is_read_back():
    box = Box((0, 8, 16), (4, 32, 64))
    assert Box.parse(str(box)) == box
    assert Box.parse("0:4, 8:32, 16:64") == box


@pytest.mark.parametrize("text", ["", "0:4", "0:4,0:4", "a:b,c:d,e:f", "0:4,0:4,0:4,0:4", "4:4,0:4,0:4", "9:4,0:4,0:4"])
def test_text_that_is_no_box_is_refused_with_a_sentence(text: str):
    with pytest.raises(ConfigError, match="box"):
        Box.parse(text)


def test_slices_cut_exactly_the_shape_out_of_an_array():
    box = Box((1, 2, 3), (4, 6, 8))
    assert np.zeros((9, 9, 9))[box.slices].shape == box.shape == (3, 4, 5)


def test_a_box_is_clipped_to_an_array_or_lies_outside():
    assert Box((-2, 0, 0), (3, 9, 9)).clipped((5, 5, 5)) == Box((0, 0, 0), (3, 5, 5))
    assert Box((5, 0, 0), (9, 5, 5)).clipped((5, 5, 5)) is None


def test_growing_shifting_and_centring():
    box = Box((2, 2, 2), (4, 4, 4))
    assert box.grown((1, 0, 2)) == Box((1, 2, 0), (5, 4, 6))
    assert box.shifted((1, -1, 0)) == Box((3, 1, 2), (5, 3, 4))
    assert Box.centred((2, 3, 4), (10, 10, 10)).shape == (2, 3, 4)
    assert Box.whole((7, 8, 9)).shape == (7, 8, 9)


def test_a_box_lies_in_an_array_where_it_is_seen_from_the_first_voxel_of_that():
    array = np.arange(5 * 6 * 7).reshape(5, 6, 7)
    part, box = Box((1, 2, 3), (4, 6, 7)), Box((2, 3, 3), (3, 5, 6))
    np.testing.assert_array_equal(array[part.slices][box.seen_from(part.start).slices], array[box.slices])


def test_an_overlap_is_the_voxels_in_both_boxes():
    one = Box((0, 0, 0), (4, 4, 4))
    assert one.overlap(Box((2, -1, 1), (9, 2, 3))) == Box((2, 0, 1), (4, 2, 3))
    assert one.overlap(Box((4, 0, 0), (5, 4, 4))) is None  # they only touch


def test_one_number_is_an_isotropic_voxel_and_three_are_z_y_x():
    assert parse_voxel_size("8") == (8.0, 8.0, 8.0)
    assert parse_voxel_size("40,4.5,4") == (40.0, 4.5, 4.0)


@pytest.mark.parametrize("text", ["", "a", "1,2", "0,1,1", "-1,1,1", "nan", "inf,1,1", "1,2,3,4"])
def test_text_that_is_no_voxel_size_is_refused_with_a_sentence(text: str):
    with pytest.raises(ConfigError, match="z,y,x in nm"):
        parse_voxel_size(text)


def test_several_voxel_sizes_have_spaces_between_and_a_word_for_what_a_file_says():
    assert parse_voxel_sizes("40, 4, 4") == ((40.0, 4.0, 4.0),)
    assert parse_voxel_sizes(" 40,4,4  file 8 ") == ((40.0, 4.0, 4.0), None, (8.0, 8.0, 8.0))
    for text in ("", "40,4,4 unknown", "40 4,4"):
        with pytest.raises(ConfigError, match="is no voxel size"):
            parse_voxel_sizes(text)


def test_voxel_sizes_that_differ_by_more_than_a_fifth_are_said():
    assert voxel_size_mismatch((40, 4, 4), (40, 4, 4.7)) is None
    assert "voxels of 40x4x4 nm (z y x), but the network was trained at 40x4x5 nm" in str(
        voxel_size_mismatch((40, 4, 4), (40, 4, 5))
    )
    assert voxel_size_mismatch((31, 4, 4), (40, 4, 4)) is not None
    assert "volume's voxel size is unknown" in str(voxel_size_mismatch(None, (40, 4, 4)))
    assert "trained at is unknown" in str(voxel_size_mismatch((40, 4, 4), None))
