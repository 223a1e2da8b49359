"""A private engine, and a small recipe to build in it."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from container_parts import Small, start_engine, stop_engine, unavailable

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(autouse=True, scope="session")
def sdk() -> None:
    """The Docker SDK is there."""
    if importlib.util.find_spec("docker") is None:
        unavailable("needs the extra `container`")


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """The address of a private engine; its socket's path is short, as sockets want it."""
    with tempfile.TemporaryDirectory(prefix="qk-engine-", ignore_cleanup_errors=True) as name:
        process = start_engine(Path(name))
        try:
            yield f"unix://{name}/engine.sock"
        finally:
            stop_engine(process)


@pytest.fixture
def client(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DockerClient]:
    """A client of the private engine, which is also the one that the command line finds."""
    from qk_containers.engine import connect

    monkeypatch.setenv("DOCKER_HOST", engine)
    monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    made = connect()
    yield made
    made.close()


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A recipe that nothing was built from yet."""
    return Small(tmp_path)
