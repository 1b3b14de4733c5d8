"""`python -m napari_tokenunify`: the same as the command `napari-tokenunify`."""

from napari_tokenunify.cli import main

raise SystemExit(main())
