"""Stores of many small files: a folder, a zip file or a network address, read file by file, never written to."""

from __future__ import annotations

import zipfile
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.zip import ZipFileSystem

from napari_tokenunify.errors import VolumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from napari_tokenunify.data.source import Location
    from napari_tokenunify.errors import Candidate

Result = TypeVar("Result")

MAX_VISITS = 2000  # groups and arrays looked at when a store is searched
_NETWORK_PACKAGES = {"aiobotocore", "aiohttp", "botocore", "gcsfs", "s3fs"}


@dataclass(frozen=True)
class Files:
    """A tree of files.

    Attributes
    ----------
    system : fsspec.AbstractFileSystem
        Where the tree is.
    root : str
        Path of its root there.
    can_list : bool
        Whether folders can be listed; a web server cannot.
    """

    system: Any
    root: str
    can_list: bool = True

    @classmethod
    def of_folder(cls, path: str) -> Files:
        """Return the tree below a folder of this machine."""
        return cls(LocalFileSystem(), path)

    @classmethod
    def of_zip(cls, path: str) -> Files:
        """Return the tree inside a zip file of this machine."""
        return cls(ZipFileSystem(path), "")

    @classmethod
    def of_address(cls, address: str, options: dict[str, Any]) -> Files:
        """Return the tree at an `http(s)://`, `s3://` or `gs://` address."""
        system, root = fsspec.url_to_fs(address, **options)
        return cls(system, root, can_list=not address.startswith("http"))

    def read(self, path: str) -> bytes | None:
        """Return what is in a file; None if there is none."""
        try:
            content: bytes = self.system.cat_file(join(self.root, path))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        return content

    def folders(self, path: str) -> list[str]:
        """Return the names of the folders in a folder, sorted; none if it is not there."""
        try:
            entries = self.system.ls(join(self.root, path), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory")


def join(*parts: str) -> str:
    """Join parts of a path inside a store; empty ones vanish."""
    return "/".join(part.rstrip("/") for part in parts if part.rstrip("/"))


def ancestors(path: str) -> Iterator[tuple[str, str]]:
    """Yield (group, rest) for each group above `path`, nearest first: a/b/c gives (a/b, c), (a, b/c), ("", a/b/c)."""
    parts = path.split("/")
    for at in range(len(parts) - 1, -1, -1):
        yield "/".join(parts[:at]), "/".join(parts[at:])


def open_with_access(location: Location, open_: Callable[[dict[str, Any]], Result]) -> Result:
    """Call `open_` with fsspec's options for a network address; its failures become sentences.

    An S3 bucket is tried without credentials first, as most public data is open to everybody, then with the
    user's own.

    Raises
    ------
    VolumeError
        If a package is missing, the address cannot be reached, or access is refused.
    """
    try:
        for options in _access_options(location.where):
            try:
                return open_(options)
            except PermissionError as error:
                refusal = error
    except ImportError as error:
        raise VolumeError(
            location.uri, "needs packages for network addresses: pip install 'napari-tokenunify[cloud]'."
        ) from error
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in _NETWORK_PACKAGES:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise VolumeError(
                location.uri, f"cannot be reached: check the address and the network ({reason})."
            ) from error
        raise
    raise VolumeError(location.uri, f"refuses access: check the address and your credentials ({refusal}).")


def _access_options(address: str) -> list[dict[str, Any]]:
    if address.startswith("s3://"):
        return [{"anon": True}, {}]
    if address.startswith("http"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
        return [{"client_kwargs": {"timeout": timeout, "trust_env": True}}]
    return [{}]


def uppermost(folder: Path, names: tuple[str, ...]) -> tuple[Path, str]:
    """Go up from a folder to the uppermost group of its store, as groups above may say how large a voxel is.

    Returns
    -------
    root : Path
        The uppermost folder in a row that holds one of the metadata files `names`, or `folder` itself.
    top : str
        The path of `folder` in it.
    """
    root = folder = folder.absolute()
    while root.parent != root and any((root.parent / name).is_file() for name in names):
        root = root.parent
    top = folder.relative_to(root).as_posix()
    return root, "" if top == "." else top


def is_zip(location: Location) -> bool:
    """Whether the location is a zip file of this machine.

    Raises
    ------
    VolumeError
        If it is a file, but no zip file.
    """
    if location.is_remote or location.path.is_dir():
        return False
    if not zipfile.is_zipfile(location.path):
        raise VolumeError(
            location.uri, "is a file, but neither a folder nor a whole zip file as such a store must be: copy it again."
        )
    return True


def find_datasets(
    start: str, inspect: Callable[[str], tuple[Candidate | None, Iterable[str]]], limit: int = 300
) -> list[Candidate]:
    """Search a store, breadth first, and return at most `limit` datasets.

    Parameters
    ----------
    start : str
        Path of the group to begin at.
    inspect : callable
        Takes a path; returns the dataset there, if it is one, and the paths to look at next.
    limit : int
        Stop when so many were found.

    Raises
    ------
    VolumeError
        The first one that `inspect` raised, where nothing else was found.
    """
    failures: list[VolumeError] = []

    def search() -> Iterator[Candidate]:
        queue = deque([start])
        for _ in range(MAX_VISITS):
            if not queue:
                return
            try:
                candidate, further = inspect(queue.popleft())
                queue.extend(further)
            except VolumeError as error:
                failures.append(error)
                continue
            if candidate is not None:
                yield candidate

    found = list(islice(search(), limit))
    if failures and not found:
        raise failures[0]
    return found
