"""Features of images, computed once per content: whatever run, model or metric asks, the cache answers.

The cache is an SQLite file per extractor in the cache folder. SQLite's own locking makes it safe for several processes;
a row is a function of its key (sha256 of the pixels), so that it does not matter who writes it. Where the cache folder
cannot be written, as in a container, a process keeps its features for itself.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import QKBenchError
from qk_bench.records import pixels_digest
from qk_bench.weights import cache_folder, table

REVISION = 3  # of the statistics: raise it when one changes its value, so that stored ones are not used
Features = NDArray[np.float32]
_BLOCK = 1 << 18


class Extractor(Protocol):
    """Turns images into features; `id` says how, resizing included."""

    id: str
    name: str
    dimensions: int

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Features:
        """Features (B, dimensions) of B images (H, W, 3) uint8."""


class FeatureStore:
    """Arrays by key, on disk, each with a checksum; a row that fails it is as good as absent.

    Args:
        path: The SQLite file, made where absent; None for a temporary one that is gone with the process.

    Raises:
        QKBenchError: It cannot be written, or is no such file.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._temporary = sqlite3.connect("") if path is None else None
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")  # fails on a file that can only be read
                connection.execute("CREATE TABLE IF NOT EXISTS arrays (key BLOB PRIMARY KEY, crc INTEGER, data BLOB)")
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error

    @classmethod
    def of(cls, extractor: Extractor) -> FeatureStore:
        """The store of an extractor in the cache folder; other weights or another resize are another file.

        Where that cannot be used, it is one of this process alone, and stderr says so once.
        """
        weights = table()[extractor.name].converted.sha256[:12]
        try:
            return cls(cache_folder() / "features" / f"{extractor.id.replace(',', '-')}-{weights}.sqlite")
        except QKBenchError as error:
            return _own(str(error))

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """What is stored under keys. Where the file turns out to be damaged, the process goes on with one of its own."""
        found: dict[bytes, bytes] = {}
        with self._leaving_if_damaged(), self._connection() as connection:
            for start in range(0, len(keys), 500):  # SQLite's limit on variables is 999 in old builds
                some = keys[start : start + 500]
                marks = ",".join("?" * len(some))
                for key, crc, data in connection.execute(f"SELECT * FROM arrays WHERE key IN ({marks})", some):
                    if zlib.crc32(data) == crc:
                        found[key] = data
        return found

    def put(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Store rows in one transaction. Rows that cannot be written (a full disk) are not kept: that costs time only."""
        with self._leaving_if_damaged(), suppress(sqlite3.OperationalError), self._connection() as connection:
            filled = ((key, zlib.crc32(data), data) for key, data in rows)
            connection.executemany("INSERT OR REPLACE INTO arrays VALUES (?, ?, ?)", filled)

    @contextmanager
    def _leaving_if_damaged(self) -> Iterator[None]:
        """Damage that opening the file did not meet: pages are read as they are asked for."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if self._temporary is not None:
                raise
            self._temporary = _own(str(self._unusable(error)))._temporary

    def _unusable(self, error: Exception) -> QKBenchError:
        mend = "delete it, or let QK_BENCH_CACHE name another folder"
        return QKBenchError(f"the feature cache {self.path} cannot be used: {error}", mend)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._temporary is not None:
            with self._temporary:
                yield self._temporary
            return
        assert self.path is not None
        with closing(sqlite3.connect(self.path, timeout=120)) as connection, connection:
            yield connection


@cache
def _own(why: str) -> FeatureStore:
    print(f"note: {why}; features are kept for this process only", file=sys.stderr)
    return FeatureStore(None)


class FeatureReader:
    """Takes images one by one, holds few of them, and gives back their features.

    Args:
        extractor: What computes features that are not stored.
        store: Where they are kept; None computes all of them.
    """

    chunk = 64
    batch = 8
    pixels = 1 << 24  # held at once, about: images of a camera fill it before they are a chunk

    def __init__(self, extractor: Extractor, store: FeatureStore | None) -> None:
        self._extractor = extractor
        self.store = store
        self._rows: dict[bytes, Features] = {}
        self._pending: dict[bytes, NDArray[np.uint8]] = {}
        self._held = 0  # bytes of what is pending

    def add(self, image: NDArray[np.uint8]) -> bytes:
        """Take an (H, W, 3) uint8 image; returns its key."""
        key = bytes.fromhex(pixels_digest(image))
        if key not in self._rows and key not in self._pending:
            self._pending[key] = image
            self._held += image.nbytes
            if len(self._pending) >= self.chunk or self._held >= 3 * self.pixels:
                self._flush()
        return key

    def features(self, keys: Sequence[bytes]) -> Features:
        """The (N, D) features of images taken before, in the order of keys."""
        self._flush()
        stacked = np.stack([self._rows[key] for key in keys])
        self._rows.update(zip(keys, stacked, strict=True))  # so that they are held once
        return stacked

    def _flush(self) -> None:
        size = 4 * self._extractor.dimensions
        stored = self.store.get(list(self._pending)) if self.store else {}
        for key, data in stored.items():
            if len(data) == size:
                self._rows[key] = np.frombuffer(data, np.float32)
        missing = [key for key in self._pending if key not in self._rows]
        for start in range(0, len(missing), self.batch):
            keys = missing[start : start + self.batch]
            self._rows.update(zip(keys, self._extractor([self._pending[key] for key in keys]), strict=True))
        if self.store and missing:
            self.store.put((key, self._rows[key].tobytes()) for key in missing)
        self._pending.clear()
        self._held = 0


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of a matrix of two sets' images of a quarter of a million numbers at most, however many images there are."""
    size = max(1, _BLOCK // columns)
    yield from (slice(start, start + size) for start in range(0, rows, size))


def kind_of_key(kind: str) -> bytes:
    """What is hashed first in the key of something computed from images, before theirs."""
    return f"{kind} {REVISION}".encode()


def set_key(kind: str, keys: Iterable[bytes]) -> bytes:
    """The key of something computed from a set of images, whatever their order."""
    return hashlib.sha256(kind_of_key(kind) + b"".join(sorted(keys))).digest()
