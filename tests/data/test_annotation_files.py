"""Points, shapes and skeletons from CSV and SWC files, drawn as labels."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_tokenunify.data.annotations import open_annotations
from napari_tokenunify.data.drawn_labels import Drawing, DrawnLabels, Pen, Polygon
from napari_tokenunify.data.volume import Volume
from napari_tokenunify.errors import AnnotationError
from napari_tokenunify.geometry import Box

SHAPE = (12, 40, 50)
SPOT = Pen("voxel", radius_nm=0)
FORK = "# a tree\n1 1 10 20 3 1 -1\n2 0 20 20 3 1 1\n3 0 10 30 3 1 1\n\n7, 0, 30, 5, 8, 1, -1\n"  # x y z


@pytest.fixture
def volume():
    return Volume.from_array(np.zeros(SHAPE, np.uint8), (40.0, 4.0, 4.0), "image")


def drawn(tmp_path, volume, name, text, pen=SPOT, boundary_id=None):
    (tmp_path / name).write_text(text)
    annotations = open_annotations(tmp_path / name, volume, boundary_id, pen=pen)
    return annotations.read(Box.whole(volume.shape))


def voxels(labels, neuron):
    return {tuple(place) for place in np.argwhere(labels == neuron).tolist()}


def test_points_of_one_id_are_one_neuron(tmp_path, volume):
    labels = drawn(tmp_path, volume, "p.csv", "x,Y, z ,id,who\n10,20,3,7,me\n11.4,20,3,7.0,me\n5,6,11,8,you\n")
    assert voxels(labels, 7) == {(3, 20, 10), (3, 20, 11)}
    assert voxels(labels, 8) == {(11, 6, 5)}
    assert labels.sum() == 22


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_points_saved_by_napari_are_a_neuron_each(tmp_path, volume, separator):
    text = "\ufeffindex,axis-0,axis-1,axis-2\n0.0,3.0,20.0,10.0\n1.0,4.0,20.0,10.0\n".replace(",", separator)
    labels = drawn(tmp_path, volume, "p.csv", text)
    assert voxels(labels, 1) == {(3, 20, 10)}
    assert voxels(labels, 2) == {(4, 20, 10)}


def test_the_feature_id_of_a_points_layer_is_the_neuron(tmp_path, volume):
    labels = drawn(tmp_path, volume, "p.csv", "index,axis-0,axis-1,axis-2,id\n0,3,20,10,5\n1,4,20,10,5\n")
    assert voxels(labels, 5) == {(3, 20, 10), (4, 20, 10)}


def test_shapes_are_filled_in_their_section_and_lines_followed(tmp_path, volume):
    rows = [
        *[f"0,rectangle,{i},2,{y},{x}" for i, (y, x) in enumerate([(5, 5), (5, 14), (9, 14), (9, 5)])],
        *[f"1,polygon,{i},{z},7,{x}" for i, (z, x) in enumerate([(4, 30), (8, 30), (8, 40), (4, 40)])],
        *[f"2,path,{i},10,{y},20" for i, y in enumerate([30, 35, 33])],
        *[f"3,ellipse,{i},6,{y},{x}" for i, (y, x) in enumerate([(20, 4), (20, 24), (30, 24), (30, 4)])],
    ]
    labels = drawn(tmp_path, volume, "s.csv", "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n" + "\n".join(rows))
    inside = np.zeros(SHAPE, bool)
    inside[2, 6:9, 6:14] = True
    assert labels[inside].tolist() == [1] * 24
    assert set(np.argwhere(labels == 1)[:, 0]) == {2}
    assert set(np.argwhere(labels == 2)[:, 1]) == {7}
    assert (labels[5:8, 7, 31:40] == 2).all()
    assert voxels(labels, 3) == {(10, y, 20) for y in range(30, 36)}
    assert abs((labels[6] == 4).sum() - np.pi * 10 * 5) < 12
    assert labels[6, 21, 5] == 0


def test_each_tree_of_an_swc_file_is_one_neuron(tmp_path, volume):
    labels = drawn(tmp_path, volume, "n.swc", FORK)
    assert voxels(labels, 1) == {(3, 20, x) for x in range(10, 21)} | {(3, y, 10) for y in range(20, 31)}
    assert voxels(labels, 2) == {(8, 5, 30)}


def test_a_folder_of_swc_files_numbers_its_trees_through(tmp_path, volume):
    (tmp_path / "a.SWC").write_text(FORK)
    (tmp_path / "b.swc").write_text("1 0 1 2 3 1 -1\n")
    labels = open_annotations(tmp_path, volume, pen=SPOT).read(Box.whole(SHAPE))
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    assert voxels(labels, 3) == {(3, 2, 1)}


@pytest.mark.parametrize(("unit", "scale"), [("nm", 1), ("um", 0.001)])
def test_coordinates_in_nm_fall_into_the_voxel_that_holds_them(tmp_path, volume, unit, scale):
    text = f"1 0 {43.9 * scale} {81 * scale} {119 * scale} 1 -1\n2 0 {40 * scale} {80 * scale} {80 * scale} 1 1\n"
    assert voxels(drawn(tmp_path, volume, "n.swc", text, Pen(unit, 0)), 1) == {(2, 20, 10)}


def test_coordinates_in_nm_are_measured_from_the_volumes_origin(tmp_path):
    volume = Volume.from_array(np.zeros(SHAPE, np.uint8), (40.0, 4.0, 4.0))
    object.__setattr__(volume, "origin_nm", (400.0, 40.0, 40.0))
    assert voxels(drawn(tmp_path, volume, "n.swc", "1 0 40 44 440 1 -1\n", Pen("nm", 0)), 1) == {(1, 1, 0)}


def test_every_step_of_a_line_is_known_to_stay_in_the_neuron(tmp_path, volume):
    labels = drawn(tmp_path, volume, "n.swc", "1 0 2 3 0 1 -1\n2 0 45 37 11 1 1\n", Pen("voxel"))
    from scipy.ndimage import label

    assert set(np.argwhere(labels)[:, 0]) == set(range(12))
    assert label(labels)[1] == 1  # through faces: pairs of neighbours lead along the whole line


def test_a_line_is_as_thick_as_the_pen_in_nm(tmp_path, volume):
    labels = drawn(tmp_path, volume, "p.csv", "z,y,x,id\n6,20,25,1\n", Pen(radius_nm=40.0))
    distance = np.linalg.norm((np.indices(SHAPE).T - (6, 20, 25)) * (40, 4, 4), axis=-1).T
    np.testing.assert_array_equal(labels == 1, distance <= 40)


def test_what_two_neurons_claim_is_not_known(tmp_path, volume):
    labels = drawn(tmp_path, volume, "n.swc", "1 0 0 5 0 1 -1\n2 0 9 5 0 1 1\n3 0 4 0 0 1 -1\n4 0 4 9 0 1 3\n")
    assert labels[0, 5, 4] == 0
    assert labels[0, 5, :10].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    assert labels[0, :10, 4].tolist() == [2] * 5 + [0] + [2] * 4


def random_drawing(rng):
    lines = rng.uniform(-0.4, np.array(SHAPE) - 0.6, (30, 2, 3))
    outlines = [rng.uniform(-5, 45, (5, 2)) for _ in range(6)]
    polygons = tuple(Polygon(100 + i, i % 3, int(rng.integers(12)), outline) for i, outline in enumerate(outlines))
    return Drawing(lines, rng.integers(1, 6, 30).astype(np.uint64), polygons)


def test_a_box_is_drawn_as_it_is_in_the_whole():
    rng = np.random.default_rng(0)
    labels = DrawnLabels(random_drawing(rng), SHAPE, Pen(radius_nm=90.0).ball((40.0, 20.0, 30.0)))
    whole = labels[Box.whole(SHAPE).slices]
    assert len(np.unique(whole)) > 8
    for _ in range(30):
        start = rng.integers(0, np.array(SHAPE) - 1)
        stop = rng.integers(start + 1, SHAPE)
        cut = tuple(map(slice, start.tolist(), stop.tolist()))
        np.testing.assert_array_equal(labels[cut], whole[cut])


def test_a_drawing_on_a_huge_volume_costs_nothing(tmp_path):
    class Huge:
        shape, dtype = (100_000, 100_000, 100_000), np.dtype(np.uint8)

    volume = Volume.from_array(Huge(), (4.0, 4.0, 4.0))
    (tmp_path / "p.csv").write_text("z,y,x,id\n50000,60000,70000,4\n50000,60001,70000,4\n")
    annotations = open_annotations(tmp_path / "p.csv", volume)
    assert sum(np.count_nonzero(block.ids) for block in annotations.labelled_blocks()) == 12


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("p.csv", "", "needs the columns z, y, x .* has nothing"),
        ("p.csv", "z,y,id\n1,2,3\n", "needs the columns z, y, x .* has z, y, id"),
        ("p.csv", "axis-0,axis-1,axis-2,axis-3,index\n1,2,3,4,0\n", "no fourth axis"),
        ("p.csv", "z,y,x\n1,2,3\n", "no column id"),
        ("p.csv", "z,y,x,id\n", "holds no point"),
        ("p.csv", "z,y,x,id\n1,2,3,1\n1,2,oops,1\n", "line 3 is damaged"),
        ("p.csv", "z,y,x,id\n1,2\n", "line 2 is damaged"),
        ("p.csv", "z,y,x,id\n1,2,3,0\n", "ids are whole numbers from 1"),
        ("p.csv", "z,y,x,id\n1,2,3,1.5\n", "1.5 is no whole number"),
        ("p.csv", "z,y,x,id\n1,2,nan,1\n", "coordinates are finite"),
        (
            "p.csv",
            "z,y,x,id\n1,2,3,1\n12,2,3,1\n1,1e300,3,1\n",
            "2 points .* 12, 40, 50 .* first at voxel 12.0, 2.0, 3",
        ),
        ("s.csv", "index,shape-type,axis-0,axis-1,axis-2\n0,blob,1,2,3\n", "unknown type 'blob'"),
        ("s.csv", "index,shape-type,axis-0,axis-1,axis-2\n0,polygon,1,2,3\n", "only 1 vertices"),
        (
            "s.csv",
            "index,shape-type,axis-0,axis-1,axis-2\n0,polygon,1,2,3\n0,polygon,2,3,4\n0,polygon,3,4,5\n",
            "not lie in one section",
        ),
        (
            "s.csv",
            "index,shape-type,axis-0,axis-1,axis-2\n0,polygon,99,2,3\n0,polygon,99,3,4\n0,polygon,99,4,9\n",
            "1 polygons lie outside",
        ),
        ("n.swc", "# only words\n", "holds no node"),
        ("n.swc", "1 0 1 2 3 1\n", "line 1 is damaged .* seven numbers"),
        ("n.swc", "1 0 1 2 3 1 -1\n2 0 1 x 3 1 1\n", "line 2 is damaged"),
        ("n.swc", "1.5 0 1 2 3 1 -1\n", "line 1 is damaged"),
        ("n.swc", "1 0 inf 2 3 1 -1\n", "line 1 is damaged"),
        ("n.swc", "1 0 1 2 3 1 -1\n1 0 2 2 3 1 -1\n", "two nodes have the same number"),
        ("n.swc", "1 0 1 2 3 1 -1\n2 0 1 2 3 1 9\n", "node 2 hangs on node 9"),
        ("n.swc", "1 0 1 2 3 1 2\n2 0 1 2 3 1 1\n", "no root"),
        ("n.swc", "1 0 1 2 3 1 1\n", "no root"),
    ],
)
def test_a_damaged_file_is_said_in_one_sentence(tmp_path, volume, name, text, sentence):
    with pytest.raises(AnnotationError, match=sentence):
        drawn(tmp_path, volume, name, text)


@pytest.mark.parametrize(
    ("pen", "sentence"),
    [
        (Pen(), "does not say its unit"),
        (Pen("voxel", -1.0), "radius of the pen cannot be -1"),
        (Pen("voxel", 5000.0), "radius of the pen cannot be 5000"),
    ],
)
def test_a_pen_that_cannot_be_used_is_refused(tmp_path, volume, pen, sentence):
    with pytest.raises(AnnotationError, match=sentence):
        drawn(tmp_path, volume, "n.swc", FORK, pen)


@pytest.mark.parametrize("pen", [Pen("nm"), Pen("voxel", 10.0)])
def test_nm_need_a_voxel_size(tmp_path, pen):
    with pytest.raises(AnnotationError, match="voxel size"):
        drawn(tmp_path, Volume.from_array(np.zeros(SHAPE, np.uint8)), "n.swc", FORK, pen)


def test_in_a_drawing_zero_cannot_be_boundary(tmp_path, volume):
    (tmp_path / "n.swc").write_text(FORK)
    with pytest.raises(AnnotationError, match="not drawn is not known"):
        open_annotations(tmp_path / "n.swc", volume, zero_is_boundary=True)


def test_a_file_that_is_not_there_is_said(tmp_path, volume):
    for name in ("missing.csv", "missing.swc"):
        with pytest.raises(AnnotationError, match=r"cannot be read .*check the path"):
            open_annotations(tmp_path / name, volume, pen=SPOT)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["f.csv", "f.swc"]),
    head=st.sampled_from(
        ["", "z,y,x,id\n", "index,shape-type,vertex-index,axis-0,axis-1,axis-2\n", "1 0 1 2 3 1 -1\n"]
    ),
    rest=st.binary(max_size=60) | st.text("0123456789 .,-e\n#npathline", max_size=60).map(str.encode),
)
def test_of_damaged_files_only_our_error_comes_out(tmp_path, volume, name, head, rest):
    (tmp_path / name).write_bytes(head.encode() + rest)
    with contextlib.suppress(AnnotationError):
        open_annotations(tmp_path / name, volume, pen=SPOT).read(Box.whole(SHAPE))
