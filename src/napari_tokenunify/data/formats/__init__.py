"""File formats: each `*_files.py` has one function, `open_source(location) -> Source`; `detect.py` picks the module.

The other files serve them: `flat_file.py` raw values, `stores.py` trees of files, `placement.py` sizes with units,
`blosc.py`, `n5_blocks.py`, `tiff_headers.py` and `tiff_pages.py` the parts that libraries read wrongly when damaged.
"""
