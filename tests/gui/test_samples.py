from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("key", ["synthetic-isotropic", "synthetic-anisotropic"])
def test_a_sample_opens_from_the_menu_with_image_and_labels(
    key: str, make_napari_viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NAPARI_TOKENUNIFY_CACHE", str(tmp_path))
    viewer = make_napari_viewer()
    image, labels = viewer.open_sample("napari-tokenunify", key)
    assert (image._type_string, labels._type_string) == ("image", "labels")
    assert labels.data[0].shape == image.data[0].shape
    assert [str(unit) for unit in image.units] == ["nanometer"] * 3
