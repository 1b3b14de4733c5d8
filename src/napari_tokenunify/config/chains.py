"""Several stages at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import CliPositionalArg

from napari_tokenunify.config.base import Config


class DemoConfig(Config):
    """Run the main job on the bundled sample, or on your own volume, and show or write the result."""

    volume: str | None = None
    """Your own volume instead of the bundled sample."""
    annotations: str | None = None
    """Labels that go with it; 0 = unlabelled."""
    out: str = "demo.tokenunify"
    """Folder for the results, a project; made if missing."""
    minutes: Annotated[float, Field(gt=0)] = 1.0
    """How long to train, if there are labels; a larger value gives better segments."""
    headless: bool = False
    """Write results and pictures, and open no window."""


class RunConfig(Config):
    """Do what a file says in a project: train, predict, segment, compare, export; done again, only what is missing."""

    file: CliPositionalArg[str]
    """A YAML file that names `project`, `volume`, `annotations` and the steps with their settings."""
