"""The worker, with the toy stages in its table: `python toy_worker.py RUN`; with `cli` first, the command line."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import tests.jobs.toy_stages  # noqa: F401 - it adds to the table

if __name__ == "__main__":
    if sys.argv[1] == "cli":
        from napari_tokenunify.cli import main as command_line

        sys.exit(command_line(sys.argv[2:]))
    from napari_tokenunify.jobs.worker import main

    sys.exit(main())
