"""Preflight: what in a volume may spoil its segmentation, found before hours are spent on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_tokenunify.data.finding import Finding
from napari_tokenunify.data.sections import measure_sections

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_tokenunify.data.sections import Pair, Section, Sections
    from napari_tokenunify.data.volume import Volume
    from napari_tokenunify.events import Event
    from napari_tokenunify.geometry import Triple, VoxelSize

_LISTED = 12  # ranges of sections named in one message

_FLAT = 0.8  # share of equal neighbours above which an image is one of labels; images have less than 0.3
_BLANK = 0.1  # spread of a blank section, as a share of the others'
_COPY = 0.05  # what copies differ by in fine detail (1 - correlation), at most ...
_COPY_SHARE = 0.2  # ... and as a share of what neighbours differ by in this volume
_SATURATED = 0.04  # share of voxels at one end of the range
_BRIGHTNESS = 0.35  # jump of the median, as a share of the usual spread
_CONTRAST = math.log(1.5)  # jump of the spread
_NEIGHBOURS = 5  # sections that a section is compared with; more odd ones together are a change that lasts
_LASTING = 0.7  # of a jump that must be left in what follows, to call it a change
_MOVE = 4.0  # voxels between neighbours that are worth a word ...
_MOVE_SHARE = 3.0  # ... if that is so many times the usual
_STILL_MATCHES = 0.8  # share of the best correlation above which a move is no jump
_SLIP = 5  # sections that may lie aside together ...
_SLIP_REST = 0.5  # ... if the move back leaves no more of the move; both hold what neurites do themselves
_DRIFT_SECTIONS = 10
_DRIFT_SLOPE = 1.2  # sideways per depth, in nm per nm; steeper than bundles of neurites run
_UNKNOWN_ANISOTROPY = 10.0
_INVERTED = -0.1  # of `Section.ridges`; images have 0.2 to 0.6

_COPIED = "Copies of another section, mostly of the one before: {}. Put the true ones in, or take the copies out."


def check_volume(volume: Volume, crop_shape: Triple = (16, 160, 160)) -> Generator[Event, None, list[Finding]]:
    """Look for what may spoil a segmentation; at most the middle 512x512 voxels of each section are read.

    Parameters
    ----------
    volume : Volume
        An image, as the network is to see it.
    crop_shape : tuple of int
        (z, y, x) voxels that the network sees at once.

    Yields
    ------
    Progress
        Sections done.

    Returns
    -------
    list of Finding
        Empty if nothing needs to be said. Kinds: "labels", "voxel-size", "small", "unreadable", "not-finite",
        "blank", "duplicate", "contrast", "saturated", "inverted", "slip", "shift", "drift".
    """
    findings = [*_voxel_size(volume.voxel_size_nm), *_size(volume.shape, crop_shape)]
    if volume.dtype.kind in "iu" and volume.dtype.itemsize > 2:
        return [_labels(f"Its data type is {volume.dtype}"), *findings]
    measured = yield from measure_sections(volume)
    blank = _blank(measured.sections)
    seen = [section for section in measured.sections if section.z not in blank]
    if seen and np.median([section.flat for section in seen]) > _FLAT:
        return [_labels("Most voxels equal their neighbours"), *findings]
    copies = _copies(seen, measured.pairs)
    flipped = _flipped(measured)
    upright = [section for section in seen if section.z not in flipped]
    findings += [
        *_damaged(measured),
        *_blank_findings(blank, measured),
        *_about("duplicate", copies, _COPIED),
        *_jumps_of_contrast(upright),
        *_saturated(seen),
        *_inverted(upright, flipped),
        *_moves(measured, blank | copies | flipped, volume.voxel_size_nm),
    ]
    return findings


def name_sections(sections: Iterable[int]) -> str:
    """Return e.g. "section 7" or "sections 12-14 and 80"; a long list ends in "and 40 more"."""
    ordered = sorted(set(sections))
    breaks = np.flatnonzero(np.diff(ordered) > 1) + 1
    runs = [(int(run[0]), int(run[-1])) for run in np.split(np.array(ordered), breaks)]
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:_LISTED]]
    left = sum(last - first + 1 for first, last in runs[_LISTED:])
    if left:
        texts.append(f"{left} more")
    listing = f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]
    return f"section{'s' if len(ordered) > 1 else ''} {listing}"


def _about(kind: str, sections: Iterable[int], text: str) -> Iterator[Finding]:
    """Yield a warning about some sections, if there are any; {} in the text is where they are named."""
    which = tuple(sorted(set(sections)))
    if which:
        yield Finding(kind, "warning", text.format(name_sections(which)), which)


def _labels(why: str) -> Finding:
    return Finding("labels", "error", f"{why}, as in a volume of labels: give the image of the tissue.")


def _voxel_size(size: VoxelSize | None) -> Iterator[Finding]:
    kind = "voxel-size"
    if size is None:
        text = "The voxel size is unknown: give it as z,y,x in nm, so that it can be compared with the network's."
        yield Finding(kind, "warning", text)
        return
    z, y, x = size
    text = f"The voxel size {z:g},{y:g},{x:g} nm (z,y,x) "
    if max(size) < 0.5 and min(size) * 1000 >= 0.5:
        problem = f"looks like micrometres: give {z * 1000:g},{y * 1000:g},{x * 1000:g}."
    elif min(size) < 0.5 or max(size) > 1000:
        problem = "is absurd for electron microscopy: check the unit, and give z,y,x in nm."
    elif size == (1, 1, 1):
        problem = "looks like a program's default: give the true one."
    elif max(y, x) > 1.5 * min(y, x):
        problem = "differs between y and x: check the order of the axes, it must be z,y,x."
    elif max(size) > 30 * min(size):
        problem = "differs more than 30 times between the axes: check it."
    else:
        return
    yield Finding(kind, "warning", text + problem)


def _size(shape: Triple, crop_shape: Triple) -> Iterator[Finding]:
    short = [
        f"{n} voxels along {axis} where a crop has {crop}"
        for axis, n, crop in zip("zyx", shape, crop_shape, strict=True)
        if n < crop
    ]
    if short:
        text = f"The volume is smaller than a crop ({'; '.join(short)}): it is padded by its own reflection there."
        yield Finding("small", "info", text)


def _damaged(measured: Sections) -> Iterator[Finding]:
    if measured.unreadable:
        first = next(iter(measured.unreadable.values()))
        text = f"Cannot read {name_sections(measured.unreadable)}: {first} Copy or convert the file again."
        yield Finding("unreadable", "error", text, tuple(sorted(measured.unreadable)))
    broken = tuple(section.z for section in measured.sections if section.not_finite)
    if broken:
        text = f"Values that are not finite (NaN or infinity) in {name_sections(broken)}: replace them, e.g. by 0."
        yield Finding("not-finite", "error", text, broken)


def _blank(sections: Sequence[Section]) -> set[int]:
    spreads = [section.spread for section in sections if section.spread > 0]
    usual = float(np.percentile(spreads, 75)) if spreads else 0.0
    return {section.z for section in sections if section.spread <= _BLANK * usual}


def _blank_findings(blank: set[int], measured: Sections) -> Iterator[Finding]:
    if blank and len(blank) == len(measured.sections):
        (_, y0, x0), (_, y1, x1) = measured.window.start, measured.window.stop
        text = (
            f"All sections are blank in the middle (y {y0}-{y1 - 1}, x {x0}-{x1 - 1}): check that it is the right data."
        )
        yield Finding("blank", "error", text, tuple(sorted(blank)))
        return
    broken = {section.z for section in measured.sections if section.not_finite}
    text = "Blank: {}. Leave them out of training, and cut them off at the ends of the stack."
    yield from _about("blank", blank - broken, text)


def _copies(seen: Sequence[Section], pairs: Sequence[Pair]) -> set[int]:
    first: dict[bytes, int] = {}
    identical = {section.z for section in seen if first.setdefault(section.digest, section.z) != section.z}
    usual = float(np.median([1 - pair.detail for pair in pairs])) if pairs else 0.0
    limit = min(_COPY, _COPY_SHARE * usual)
    return identical | {pair.z for pair in pairs if 1 - pair.detail < limit}


def _jumps_of_contrast(seen: Sequence[Section]) -> Iterator[Finding]:
    if len(seen) < 3:
        return
    usual = float(np.median([section.spread for section in seen]))
    brightness = np.array([section.middle for section in seen]) / usual
    contrast = np.log([section.spread for section in seen]) - math.log(usual)
    odd: set[int] = set()
    changes: set[int] = set()
    for values, least in ((brightness, _BRIGHTNESS), (contrast, _CONTRAST)):
        outliers, steps = _outliers(values, least)
        odd |= {seen[i].z for i in outliers}
        changes |= {seen[i].z for i in steps}
    text = "Brightness or contrast unlike that of the neighbours: {}. Match the histogram to theirs."
    yield from _about("contrast", odd, text)
    text = "Brightness or contrast changes, and stays so, at {}: match the histograms of the parts."
    yield from _about("contrast", changes, text)


def _outliers(values: NDArray[np.float64], least: float) -> tuple[list[int], list[int]]:
    """Return what is unlike the values before it: single ones and short runs, and where a lasting change begins."""
    reach = 2 * _NEIGHBOURS + 1
    deviations = [abs(values[i] - np.median(values[max(0, i - _NEIGHBOURS) :][:reach])) for i in range(len(values))]
    limit = max(least, 6 * float(np.median(deviations)))
    recent = list(values[:_NEIGHBOURS])
    outliers: list[int] = []
    changes: list[int] = []
    for i, value in enumerate(values):
        usual = np.median(recent)
        if abs(value - usual) <= limit:
            recent = [*recent[1 - _NEIGHBOURS :], value]
            continue
        ahead = values[i : i + reach]
        if len(ahead) > _NEIGHBOURS and abs(np.median(ahead) - usual) > _LASTING * limit:
            changes.append(i)
            recent = list(ahead[:_NEIGHBOURS])
        else:
            outliers.append(i)
    return outliers, changes


def _saturated(seen: Sequence[Section]) -> Iterator[Finding]:
    for end, share in (("lowest", "darkest"), ("highest", "brightest")):
        cut = [section.z for section in seen if getattr(section, share) > _SATURATED]
        text = (
            f"More than {100 * _SATURATED:.0f} % of the voxels have the {end} value: {{}}. Detail is lost there: "
            "export again from the microscope's data, with a wider range."
        )
        yield from _about("saturated", cut, text)


def _flipped(measured: Sections) -> set[int]:
    """Return the sections whose contrast is the inverse of most others': neighbours correlate only when negated."""
    sides: tuple[set[int], set[int]] = ({pair.before for pair in measured.pairs[:1]}, set())
    side = 0
    for pair in measured.pairs:
        side ^= -pair.trough > max(measured.chance, 1.25 * pair.peak)
        sides[side].add(pair.z)
    return min(sides, key=len)


def _inverted(upright: Sequence[Section], flipped: set[int]) -> Iterator[Finding]:
    yield from _about("inverted", flipped, "Contrast inverted against the other sections: {}. Invert it back.")
    scores = np.array([section.ridges for section in upright if section.ridges])
    if not scores.size:
        return
    per_scale = np.median(scores, axis=0)
    if per_scale.mean() < _INVERTED and per_scale.max() < 0:
        text = "The contrast seems inverted: membranes look bright, and must be dark; invert the volume."
        yield Finding("inverted", "warning", text)


def _moves(measured: Sections, leave_out: set[int], voxel_size_nm: VoxelSize | None) -> Iterator[Finding]:
    pairs = [pair for pair in measured.pairs if pair.peak > measured.chance and not {pair.before, pair.z} & leave_out]
    if not pairs:
        return
    usual = float(np.median([math.hypot(*pair.move) for pair in pairs]))
    least = max(_MOVE, _MOVE_SHARE * usual)
    jumps = [p for p in pairs if math.hypot(*p.move) > least and p.unmoved < _STILL_MATCHES * p.peak]
    slipped, shifts = _slips(jumps)
    text = "Moved sideways by up to {:.0f} voxels against both neighbours: {{}}. Move back, or align the stack again."
    yield from _about("slip", slipped, text.format(_farthest(jumps, slipped)))
    text = "The stack moves sideways by up to {:.0f} voxels, and stays so, at {{}}: align it again."
    yield from _about("shift", shifts, text.format(_farthest(jumps, shifts)))
    yield from _drift([pair for pair in pairs if pair not in jumps], voxel_size_nm)


def _farthest(jumps: Sequence[Pair], sections: set[int]) -> float:
    return max((math.hypot(*jump.move) for jump in jumps if jump.z in sections), default=0.0)


def _slips(jumps: Sequence[Pair]) -> tuple[set[int], set[int]]:
    """Return the sections between a jump and the jump back, and those where a jump stays."""
    slipped: set[int] = set()
    shifts: set[int] = set()
    left = list(jumps)
    while left:
        jump = left.pop(0)
        back = left[0] if left else jump
        rest = math.hypot(jump.move[0] + back.move[0], jump.move[1] + back.move[1])
        farther = max(math.hypot(*jump.move), math.hypot(*back.move))
        if rest <= _SLIP_REST * farther and back.z - jump.z <= _SLIP:
            slipped |= set(range(jump.z, back.z))
            left.pop(0)
        else:
            shifts.add(jump.z)
    return slipped, shifts


def _drift(pairs: Sequence[Pair], voxel_size_nm: VoxelSize | None) -> Iterator[Finding]:
    """Find where the content moves on steadily, steeper than neurites usually run."""
    if len(pairs) < _DRIFT_SECTIONS:
        return
    anisotropy = voxel_size_nm[0] / max(voxel_size_nm[1:]) if voxel_size_nm else _UNKNOWN_ANISOTROPY
    limit = _DRIFT_SLOPE * max(1.0, anisotropy)
    moves = np.array([np.array(pair.move) / (pair.z - pair.before) for pair in pairs])
    means = np.lib.stride_tricks.sliding_window_view(moves, _DRIFT_SECTIONS, axis=0).mean(axis=-1)
    slopes = np.hypot(*means.T)
    steep: set[int] = set()
    for i in np.flatnonzero(slopes > limit).tolist():
        along = moves[i : i + _DRIFT_SECTIONS] @ means[i] / slopes[i]
        steep |= {pairs[i + j].z for j in np.flatnonzero(along > limit / 2).tolist()}
    text = (
        f"The content moves on by about {slopes.max():.1f} voxels a section around {{}}: look at the stack from the "
        "side; unless neurites run obliquely there, align it again."
    )
    yield from _about("drift", steep, text)
