from __future__ import annotations

from pathlib import Path

import napari
import pytest

from napari_tokenunify.gui.show import show

pytestmark = pytest.mark.gui


def test_every_volume_named_is_a_layer(make_napari_viewer, monkeypatch: pytest.MonkeyPatch, volume_file: Path):
    monkeypatch.setattr(napari, "Viewer", lambda **_: make_napari_viewer())
    viewer = show([f"{volume_file}::raw", f"{volume_file}::labels"])
    assert [layer.name for layer in viewer.layers] == ["cube raw", "cube labels"]
