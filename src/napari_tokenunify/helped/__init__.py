"""Did a pre-training help? The same trainings from it, from scratch and from others, scored on labels that none saw.

Read `comparison.py`, the stage, then `places.py`, what is kept back, `scoring.py` and `table.py`.
"""
