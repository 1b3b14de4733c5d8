"""The Hugging Face hub: what a repository holds, and a download that goes on where it was cut off.

Works behind a mirror or a proxy (`HF_ENDPOINT`), with a token where one is stored, and says so where there is no way
to the hub. The library's own download starts anew after an interruption, so only its requests are used.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is httpx's, of whichever name
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from napari_tokenunify.errors import ModelError
from napari_tokenunify.events import Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_tokenunify.events import Event

_PIECE: Final = 1 << 20  # bytes between two reports
_SECONDS: Final = 20  # without an answer
_SHA256: Final = re.compile("[0-9a-f]{64}")
_SUFFIXES: Final = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


@dataclass(frozen=True)
class HubFile:
    """A file of weights in a repository of the hub.

    Attributes
    ----------
    repository : str
        OWNER/NAME.
    path : str
        Path in the repository.
    revision : str
        The commit that the other facts are of.
    bytes : int
        Its size.
    sha256 : str
        What its content must hash to.
    licence : str
        What the repository says may be done with it; "unknown" if it says nothing.
    """

    repository: str
    path: str
    revision: str
    bytes: int
    sha256: str
    licence: str

    @property
    def megabytes(self) -> float:
        """Its size in units of a million bytes."""
        return self.bytes / 1e6

    @property
    def page(self) -> str:
        """Where it comes from, for a person to look at."""
        return f"https://huggingface.co/{self.repository}/blob/{self.revision}/{self.path}"


def list_weights(repository: str) -> list[HubFile]:
    """Ask the hub which files of weights a repository holds.

    Parameters
    ----------
    repository : str
        OWNER/NAME.

    Raises
    ------
    ModelError
        If the hub cannot be reached, or has no such repository or does not show it.
    """
    with _said(repository):
        info = HfApi(endpoint=_endpoint()).model_info(repository, files_metadata=True, timeout=_SECONDS)
    prefix = "license:"  # the hub makes this tag of what the repository's page says
    licence = next((tag.removeprefix(prefix) for tag in info.tags or () if tag.startswith(prefix)), "unknown")
    return [
        HubFile(repository, file.rfilename, info.sha or "main", file.lfs.size, file.lfs.sha256, licence)
        for file in info.siblings or ()
        if file.rfilename.endswith(_SUFFIXES) and file.lfs is not None and _SHA256.fullmatch(file.lfs.sha256)
    ]


def download(file: HubFile, folder: Path) -> Generator[Event, None, Path]:
    """Download a file, or the rest of it, and check its hash.

    Parameters
    ----------
    file : HubFile
        As `list_weights` gave it.
    folder : Path
        Where to put it. What has arrived stays there if the download is cut off, and is not asked for again.

    Returns
    -------
    Path
        The whole file, named by its hash.

    Raises
    ------
    ModelError
        If the hub cannot be reached, the disk is too small, or what came is not what was promised.
    """
    whole = folder / f"{file.sha256}{PurePosixPath(file.path).suffix}"
    if whole.exists():
        return whole
    folder.mkdir(parents=True, exist_ok=True)
    part = whole.with_suffix(".part")
    done = part.stat().st_size if part.exists() else 0
    free = shutil.disk_usage(folder).free
    if free < file.bytes - done:
        raise ModelError(f"{file.path}: needs {file.megabytes:.0f} MB, but {folder} has only {free / 1e6:.0f} free.")
    while done < file.bytes:
        before = done
        try:
            with _said(file.repository):
                for received in _receive(file, part, before):
                    if received // _PIECE != done // _PIECE:
                        yield Progress(received, file.bytes, f"downloading {file.path}")
                    done = received
        except ModelError:
            if done <= before:  # else something came: ask again for the rest
                raise
    with part.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.sha256:
        part.unlink()
        raise ModelError(f"{file.path}: what came is not what {file.repository} promises, and was deleted; try again.")
    part.replace(whole)
    return whole


def _receive(file: HubFile, part: Path, done: int) -> Iterator[int]:
    """Append to `part`, of `done` bytes, what it lacks; yield its size after each piece."""
    url = hf_hub_url(file.repository, file.path, revision=file.revision, endpoint=_endpoint())
    # identity: a compressed answer would have other byte positions
    headers = {**build_hf_headers(), "Range": f"bytes={done}-", "Accept-Encoding": "identity"}
    with get_session().stream("GET", url, headers=headers, timeout=_SECONDS) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:  # the server cannot send parts: all comes again
            done = 0
        with part.open("r+b" if done else "wb") as out:
            out.seek(done)
            for piece in response.iter_bytes():
                out.write(piece)
                done += len(piece)
                yield done


def _endpoint() -> str | None:
    """Return what HF_ENDPOINT names now; the library reads it only once."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


@contextmanager
def _said(repository: str) -> Iterator[None]:
    """Turn what the library raises into a sentence."""
    hub = _endpoint() or "https://huggingface.co"
    try:
        yield
    except GatedRepoError as error:
        raise ModelError(
            f"{repository}: is given out only to those who agree to its terms; do so on {hub}/{repository}, "
            "run `hf auth login`, and try again."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"{repository}: {hub} has no such repository, or it is private.") from error
    except HfHubHTTPError as error:
        raise ModelError(f"{repository}: {hub} answered {error.response.status_code}; try again later.") from error
    except (HTTPError, ConnectionError, TimeoutError) as error:
        raise ModelError(
            f"{repository}: {hub} cannot be reached; models need a connection only to be downloaded, "
            "what has arrived is kept, and those that are here work without one."
        ) from error
    except OSError as error:
        raise ModelError(f"{repository}: cannot be stored ({error.strerror or error}).") from error
