"""The only place that knows napari or Qt: readers, sample data, and the panels of the parts to come.

Read `layers.py` first (how a Volume becomes a layer). Every entry of `napari.yaml` names a function here by its
full dotted path, so importing this package loads nothing.
"""
