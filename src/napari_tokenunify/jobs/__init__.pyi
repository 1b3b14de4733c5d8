from .foreground import JobStopped as JobStopped
from .foreground import run_job as run_job
from .foreground import watch as watch
from .history import compare as compare
from .history import known_jobs as known_jobs
from .job import Job as Job
from .spec import JobSpec as JobSpec
from .spec import JobState as JobState
from .spec import JobStatus as JobStatus
from .spec import LaunchConfig as LaunchConfig

__all__ = [
    "Job",
    "JobSpec",
    "JobState",
    "JobStatus",
    "JobStopped",
    "LaunchConfig",
    "compare",
    "known_jobs",
    "run_job",
    "watch",
]
