"""The errors a user can act on: each message is one sentence that says what is wrong and what to do."""

from __future__ import annotations

from dataclasses import dataclass


class TokenUnifyError(Exception):
    """Base of every error this package raises on purpose; its text may be shown to a user as it is."""


class VolumeError(TokenUnifyError):
    """A volume cannot be opened or read as asked.

    Parameters
    ----------
    uri : str
        The address that was asked for.
    problem : str
        What is wrong and what to do, as one sentence without a leading capital or the address.
    """

    def __init__(self, uri: str, problem: str) -> None:
        super().__init__(f"{uri}: {problem}")
        self.uri = uri
        self.problem = problem

    def __reduce__(self) -> tuple[type[VolumeError], tuple[str, str]]:
        """Let the error cross from a worker process whole."""
        return type(self), (self.uri, self.problem)


@dataclass(frozen=True)
class Candidate:
    """One dataset inside a file or store.

    Attributes
    ----------
    inner : str
        Its path inside the file, as it follows `::` in a URI.
    shape : tuple of int
        Its shape as stored.
    dtype : str
        Its data type as stored, e.g. "uint8".
    """

    inner: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        """Return `/volumes/raw (125x1250x1250 uint8)`."""
        return f"{self.inner} ({'x'.join(map(str, self.shape))} {self.dtype})"


class DatasetChoiceError(VolumeError):
    """A file holds several datasets, or not the one named; `candidates` lists what is there."""

    def __init__(self, uri: str, problem: str, candidates: tuple[Candidate, ...]) -> None:
        super().__init__(uri, problem)
        self.candidates = candidates

    def __reduce__(self) -> tuple[type[VolumeError], tuple[str, str, tuple[Candidate, ...]]]:  # type: ignore[override]
        """Let the error cross from a worker process whole."""
        return type(self), (self.uri, self.problem, self.candidates)


class AnnotationError(TokenUnifyError):
    """Annotations cannot be read, or do not fit the volume they are meant for."""


class ConfigError(TokenUnifyError):
    """A setting has a value that cannot be used."""


class ModelError(TokenUnifyError):
    """A network's weights cannot be found, had, read or written as asked."""


class SegmentError(TokenUnifyError):
    """Affinities, fragments or a segmentation cannot be made, found, read or written as asked."""


class ProofreadError(TokenUnifyError):
    """An edit cannot be made, kept, read or repeated as asked."""


class ExportError(TokenUnifyError):
    """Segments or layers cannot be written for other programs as asked."""


class TrainError(TokenUnifyError):
    """A network cannot be trained as asked, or a training cannot go on."""


class JobError(TokenUnifyError):
    """A job cannot be started, found, or told what to do."""


class ProjectError(TokenUnifyError):
    """A project cannot be made, found, read or written as asked."""
