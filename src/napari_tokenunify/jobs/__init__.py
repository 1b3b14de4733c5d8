"""Long work in a process of its own: started, watched, paused, stopped and found again by files in its run folder.

Read `spec.py` first (what a job is), then `worker.py` (the child process) and `job.py` (all others' handle on it).
Nothing here loads torch: only the worker does, by running its stage.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
