"""A run directory: what is in it, and how it is written so that it can be killed at any moment.

    manifest.json        spec, versions, hardware, counts; sealed with a digest, replaced atomically
    outcomes.jsonl       one line per request, append-only
    timings.jsonl        everything measured, append-only; kept apart so that the rest compares byte for byte
    images/ab/ab….png    outputs, named by the sha256 of the file; identical outputs are stored once
    scores.parquet       one row per outcome and metric, in plan order
    aggregates.parquet   metrics of whole sets
    scores.jsonl         journal of scored blocks; removed once scores.parquet holds every score and none is a judge_error
    logs/                what the worker processes printed
    site/                the site of the run, if it was built
    dropped.jsonl        outcome lines that were taken out as damaged, if any
    unexpected.txt       of a scored folder: files that belong to no request, if any

An image is renamed into place before the line that names it is appended, and a line is one `write` to a file opened
with O_APPEND (and never through a symbolic link, which may lead out of the folder): a killed process loses at most the request in flight. Nothing is synced per line. A kill or a full disk
does not lose what `write` has accepted; only a power cut can, and what it takes shows as damage when the run is opened,
because every image is named by its hash. Files are synced once, when a session ends.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from qk_bench.errors import FULL_DISK, DamagedRunError, FullDiskError, UsageError
from qk_bench.images import decode_png
from qk_bench.manifest import FORMAT, FORMAT_VERSION, Manifest
from qk_bench.records import Outcome

MANIFEST: Final = "manifest.json"
OUTCOMES: Final = "outcomes.jsonl"
TIMINGS: Final = "timings.jsonl"
SCORES: Final = "scores.parquet"
AGGREGATES: Final = "aggregates.parquet"
JOURNAL: Final = "scores.jsonl"
IMAGES: Final = "images"
LOGS: Final = "logs"
DROPPED: Final = "dropped.jsonl"
PAGE: Final = "site"
UNEXPECTED: Final = "unexpected.txt"
LOCK: Final = "lock"
MISSING_IMAGE: Final = "missing image"
CORRUPT_IMAGE: Final = "corrupt image"
OURS: Final = (MANIFEST, OUTCOMES, TIMINGS, SCORES, AGGREGATES, JOURNAL, IMAGES, LOGS, DROPPED, PAGE, UNEXPECTED, LOCK)
_MARK: Final = "qk-bench {}:"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise FullDiskError(
                f"no space left to write {path}; everything stored so far is whole",
                "free some space and run the same command again",
            ) from error
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a whole file or nothing: to a temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def take_lock(path: Path, folder: Path, work: str) -> int:
    """Hold a kernel lock until it is closed or this process ends; a killed one leaves none behind.

    Args:
        path: The lock's file; it names its holder.
        folder: What is locked.
        work: What writes it, such as `run`.

    Returns:
        The file descriptor to close.

    Raises:
        UsageError: Another process holds it, or the file system has no locks.
    """
    import fcntl

    mark = _MARK.format(work)
    with writing(path):
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 200, 0).decode(errors="replace").removeprefix(mark).strip()
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise UsageError(f"{folder} is being written by another {work} ({holder})", "wait for it") from None
        raise UsageError(
            f"{folder} cannot be locked: {error.strerror or error}", "name an --out on a file system with locks"
        ) from None
    with writing(path):
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{mark} process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return lock


class LineReader:
    """Reads lines of a file by where they start."""

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.path = path
        self._fd = os.open(path, flags | os.O_CLOEXEC, 0o644)

    def read(self, offset: int) -> bytes:
        """The line that starts at an offset, without its end."""
        data = b""
        while b"\n" not in data:
            part = os.pread(self._fd, 4096 if not data else 1 << 20, offset + len(data))
            if not part:
                raise DamagedRunError(f"{self.path}: no complete line at byte {offset}")
            data += part
        return data[: data.index(b"\n")]

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class LineFile(LineReader):
    """An append-only file of complete lines."""

    def __init__(self, path: Path) -> None:
        with writing(path):
            super().__init__(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW)
        self.size = os.fstat(self._fd).st_size

    def append(self, line: bytes) -> int:
        """Append one line, all of it or nothing.

        Args:
            line: The line, without its end.

        Returns:
            The offset at which it starts.
        """
        data, start = line + b"\n", self.size
        with writing(self.path):
            try:
                if os.write(self._fd, data) != len(data):  # a disk that fills up takes a part
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._fd, start)
                raise
        self.size = start + len(data)
        return start

    def trim(self) -> None:
        """Cut off a last line that has no end."""
        start = max(0, self.size - (1 << 24))
        tail = os.pread(self._fd, self.size - start, start)
        if not tail.endswith(b"\n"):
            self.size = start + tail.rfind(b"\n") + 1
            os.ftruncate(self._fd, self.size)

    def close(self) -> None:
        """Make the file durable and close it."""
        with contextlib.suppress(OSError):  # a file system without fsync
            os.fsync(self._fd)
        super().close()


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The (offset, line) of each line of a file; the last one may be torn: it then has no line end.

    Raises:
        DamagedRunError: It is there, but cannot be read.
    """
    offset = 0
    try:
        with path.open("rb") as file:
            for line in file:
                yield offset, line
                offset += len(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DamagedRunError(f"{path} cannot be read: {error.strerror or error}") from None


class RunDirectory:
    """A run directory. To read it, make one; to write it, enter it as a context, which locks it.

    Args:
        path: The folder.
        fresh: Whether entering deletes the run that is there.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self.fresh = fresh
        self._lock: int | None = None
        self.outcomes: LineFile
        self.timings: LineFile
        self.journal: LineFile

    def __enter__(self) -> Self:
        """Create the folder if needed, take the lock and open the files that are appended to.

        Raises:
            UsageError: The folder holds something else, cannot be written, or is being written by another process.
        """
        with writing(self.path):
            if self.path.exists() and not is_run(self.path) and not (self.path.is_dir() and _is_empty(self.path)):
                raise UsageError(f"{self.path} exists and is not a run", "name another folder with --out")
            self.path.mkdir(parents=True, exist_ok=True)
        self._lock = take_lock(self.path / LOCK, self.path, "run")
        if self.fresh:
            self._clear()
        with writing(self.path):
            if (self.path / IMAGES / ".tmp").is_symlink():  # what is left over in it would not be ours
                (self.path / IMAGES / ".tmp").unlink()
            (self.path / IMAGES / ".tmp").mkdir(parents=True, exist_ok=True)
            (self.path / LOGS).mkdir(exist_ok=True)
        temporary = [path for name in OURS for path in self.path.glob(f".{name}.*tmp")]
        for left_over in [*(self.path / IMAGES / ".tmp").iterdir(), *temporary]:
            if not left_over.is_dir():
                left_over.unlink()
        self.open_files()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the files and release the lock."""
        self.close_files()
        if self._lock is not None:
            os.close(self._lock)

    def open_files(self) -> None:
        """Open the files that are appended to."""
        self.outcomes = LineFile(self.path / OUTCOMES)
        self.timings = LineFile(self.path / TIMINGS)
        self.journal = LineFile(self.path / JOURNAL)
        self.timings.trim()
        self.journal.trim()

    def close_files(self) -> None:
        """Make the appended files durable and close them; an empty journal is removed."""
        for file in (self.outcomes, self.timings, self.journal):
            file.close()
        if not self.journal.size:
            self.journal.path.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Delete the files of a run, and nothing else that may be in the folder."""
        for name in OURS:
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif name != LOCK:
                entry.unlink(missing_ok=True)

    def remove(self, *names: str) -> None:
        """Delete files of the run that are there."""
        for name in names:
            with writing(self.path / name):
                (self.path / name).unlink(missing_ok=True)

    def put_image(self, png: bytes) -> str:
        """Store an encoded output and give its sha256."""
        sha = hashlib.sha256(png).hexdigest()
        path = self.image_path(sha)
        try:
            if path.stat().st_size == len(png):
                return sha
        except FileNotFoundError:
            pass
        temporary = self.path / IMAGES / ".tmp" / sha
        with writing(path):
            try:
                with temporary.open("wb") as file:
                    file.write(png)
                try:
                    temporary.replace(path)
                except FileNotFoundError:
                    path.parent.mkdir(exist_ok=True)
                    temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return sha

    def image_path(self, sha: str) -> Path:
        """Where the image of a hash is."""
        return self.path / IMAGES / sha[:2] / f"{sha}.png"

    def image_problem(self, sha: str) -> str | None:
        """Why a stored image cannot be trusted; None if it is whole."""
        try:
            with self.image_path(sha).open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == sha
        except OSError:
            return MISSING_IMAGE
        return None if whole else CORRUPT_IMAGE

    def read_image(self, sha: str) -> NDArray[np.uint8]:
        """The pixels of a stored image.

        Raises:
            DamagedRunError: The file is missing, or is not what its name says.
        """
        path = self.image_path(sha)
        try:
            data = path.read_bytes()
        except OSError:
            raise DamagedRunError(f"{MISSING_IMAGE} {path}") from None
        if hashlib.sha256(data).hexdigest() != sha:
            raise DamagedRunError(f"{CORRUPT_IMAGE} {path}")
        return decode_png(data)

    def read_outcome(self, offset: int) -> Outcome:
        """The outcome whose line starts at an offset of `outcomes.jsonl`."""
        return Outcome.model_validate_json(self.outcomes.read(offset))

    def read_manifest(self) -> Manifest | None:
        """The manifest, or None if there is none.

        Raises:
            DamagedRunError: It cannot be read, or was changed after it was written.
            UsageError: It was written by a later version.
        """
        path = self.path / MANIFEST
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedRunError(f"{path} cannot be read: {error}", "restore it, or start over with --fresh") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise DamagedRunError(f"{path} is not the manifest of a run")
        if data.get("format_version") != FORMAT_VERSION:
            raise UsageError(f"{path} has format version {data.get('format_version')}, this is {FORMAT_VERSION}")
        try:
            manifest = Manifest.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DamagedRunError(f"{path}: {where}: {first['msg']}", "restore it, or use --fresh") from None
        if not manifest.is_intact(data):
            raise DamagedRunError(f"{path} was edited after the run wrote it", "restore it, or start over with --fresh")
        return manifest

    def write_manifest(self, manifest: Manifest) -> Manifest:
        """Seal a manifest and replace `manifest.json` with it."""
        sealed = manifest.sealed()
        write_atomically(self.path / MANIFEST, sealed.model_dump_json(indent=1).encode() + b"\n")
        return sealed

    def file_digest(self, name: str) -> str | None:
        """The sha256 of one of the run's files; None if it is not there."""
        try:
            with (self.path / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None


def is_run(path: Path) -> bool:
    """Whether a folder is recognisably a run of ours, damaged or not."""
    with contextlib.suppress(OSError):
        if FORMAT.encode() in (path / MANIFEST).read_bytes()[:4096]:
            return True
    with contextlib.suppress(OSError):
        return (path / LOCK).read_bytes().startswith(_MARK.format("run").encode())
    return False


def _is_empty(path: Path) -> bool:
    """Whether a folder holds nothing, or only the lock of a run that was stopped before it could sign it."""
    return all(entry.name == LOCK and entry.stat().st_size == 0 for entry in path.iterdir())
