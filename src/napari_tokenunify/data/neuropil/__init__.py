"""A synthetic block of neuropil: how it grows, where everything lies, and how it looks in a microscope.

Read `growth.py` (neurites on a coarse grid), then `anatomy.py` (voxels), then `appearance.py` (grey values);
`chance.py` holds the random numbers. `data.synthetic` is what others use.

Only integers and NumPy's elementwise `+ - * /` and `sqrt` are used, which IEEE 754 fixes to the last bit, and the
bits of PCG64, whose stream NumPy keeps: so a seed gives the same bytes on every machine.
"""
