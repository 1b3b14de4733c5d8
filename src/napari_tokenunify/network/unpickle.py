"""Reading PyTorch's `.pth` files without running anything that is in them.

Such a file is a pickle, a program that may call any function of any package, and the tensors' bytes beside it. Here
the program can reach a few functions of this file and nothing else. Everything it names that is no tensor, such as the
`argparse.Namespace` of a training script, becomes an object that does nothing; a call of anything but what plain data
is made with is refused. Tensors are read when they are asked for, so an optimiser's state beside them costs no memory.

Read are the zip format of `torch.save` and the older one of PyTorch 0.1 to 1.5.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import torch

from napari_tokenunify.errors import ModelError
from napari_tokenunify.network.card import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C
_DTYPES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# What plain data in a training script's settings is made with. None of it is called; the list only tells it from a
# file that wants to run something.
_DATA: Final = {
    "_codecs": {"encode"},
    "builtins": {"bytearray", "complex", "frozenset", "range", "set", "slice"},
    "collections": {"Counter", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "datetime": {"date", "datetime", "time", "timedelta"},
    "numpy": {"dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "pathlib": {"PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "pathlib._local": {"PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "torch": {"Size", "device"},
}
_PYTHON_2: Final = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class Storage(NamedTuple):
    """The bytes of one or more tensors, in the file."""

    key: str
    dtype: torch.dtype


class StoredTensor(NamedTuple):
    """A tensor in the file: where it begins in its storage, in elements, and how it is laid out there."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_pth(path: Path, choose: Callable[[object], Mapping[str, StoredTensor]]) -> tuple[object, dict[str, Tensor]]:
    """Read tensors of a `.pth` file onto the CPU.

    Parameters
    ----------
    path : Path
        The file; it is never written to.
    choose : callable
        Gets what was saved, as plain containers and values in which a tensor is a `StoredTensor`; returns those that
        are to be read. Only their bytes are.

    Returns
    -------
    object
        What `choose` got.
    dict of Tensor
        What it chose, under the names it gave. Tensors that shared memory when they were saved share it again.

    Raises
    ------
    ModelError
        If there is no such file, it is damaged or of another kind, or it wants to run something.
    """
    try:
        with path.open("rb") as file:
            head = file.read(2)
            file.seek(0)
            content, read = _open_zip(file) if head == b"PK" else _open_legacy(file)
            return content, _read(choose(content), read)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: nothing is there; check the path.") from error
    except _RefusedError as error:
        raise ModelError(
            f"{path}: wants to run {error} when it is read, which weights do not need; nothing was run. Get them from "
            "another source, or, where you trust the file, save its state dict alone."
        ) from error
    except ModelError:
        raise
    except Exception as error:  # what a damaged pickle raises is anybody's guess
        raise damaged(path) from error


def _read(wanted: Mapping[str, StoredTensor], read: Callable[[str], bytearray]) -> dict[str, Tensor]:
    storages: dict[str, Tensor] = {}
    for stored in wanted.values():
        key, dtype = stored.storage
        if key not in storages:
            content = read(key)
            storages[key] = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
    # as_strided refuses what would reach beyond the storage
    return {
        name: storages[stored.storage.key].as_strided(stored.shape, stored.stride, stored.offset)
        for name, stored in wanted.items()
    }


def _open_zip(file: IO[bytes]) -> tuple[object, Callable[[str], bytearray]]:
    """Open a zip with the record data.pkl, and one for each storage."""
    archive = zipfile.ZipFile(file)
    root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
    content = _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()
    return content, lambda key: bytearray(archive.read(f"{root}data/{key}"))


def _open_legacy(file: IO[bytes]) -> tuple[object, Callable[[str], bytearray]]:
    """Open five pickles one after the other: magic number, version, machine, content, keys; then come the storages."""
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise pickle.UnpicklingError("another kind of pickle")
    for _ in range(2):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    content = unpickler.load()
    places: dict[str, tuple[int, int]] = {}
    keys, place = _Unpickler(file).load(), file.tell()
    for key in keys:
        file.seek(place)
        size = struct.unpack("<q", file.read(8))[0] * unpickler.dtypes[key].itemsize
        places[key] = (place + 8, size)
        place += 8 + size
    if file.seek(0, io.SEEK_END) < place:
        raise EOFError

    def read(key: str) -> bytearray:
        start, size = places[key]
        file.seek(start)
        return bytearray(file.read(size))

    return content, read


class _RefusedError(Exception):
    """The pickle wants to call what its text names."""


class _Inert(type):
    """The type of classes that stand for unknown ones: making an object the plain way works, a call does not."""

    def __call__(cls, *_: object, **__: object) -> object:
        raise _RefusedError(cls.__name__)


class _Nothing(metaclass=_Inert):
    """Stands for any object that is no tensor and no plain value; takes whatever a pickle fills it with."""

    def __new__(cls, *_: object, **__: object) -> _Nothing:
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    add = append


class _Unpickler(pickle.Unpickler):  # noqa: S301 - restricted below: that is its purpose
    """Python's unpickler, in which no name of a file leads out of this class."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")  # what Python 2 wrote, and never an error
        self.dtypes: dict[str, torch.dtype] = {}  # of each storage

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing is imported."""
        module = _PYTHON_2.get(module, module)
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in {"_rebuild_tensor", "_rebuild_tensor_v2"}:
            return self._tensor
        if module == "torch._utils" and name in {"_rebuild_parameter", "_rebuild_parameter_with_state"}:
            return self._parameter
        if name in _DATA.get(module, ()):
            return self._nothing
        return _Inert(f"{module}.{name}", (_Nothing,), {})

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a pickle refers to: ("storage", type, key, device, elements)."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(pid[5:]):
            raise pickle.UnpicklingError(f"unknown reference {pid}")
        self.dtypes[str(key)] = dtype
        return Storage(str(key), dtype)

    def _tensor(self, storage: Storage, offset: int, shape: Any, stride: Any, *_: object) -> StoredTensor:
        return StoredTensor(Storage(*storage), int(offset), tuple(shape), tuple(stride))

    def _parameter(self, tensor: StoredTensor, *_: object) -> StoredTensor:
        return tensor

    def _nothing(self, *_: object) -> _Nothing:
        return _Nothing.__new__(_Nothing)
