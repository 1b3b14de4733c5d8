"""A volume and a network in, affinities on disk out.

Read `predict.py` (the stage), `tile_run.py` (one run over a volume), then what it is made of: `tiles.py`,
`tile_network.py`, `blending.py`, `cell_sums.py`.
"""
