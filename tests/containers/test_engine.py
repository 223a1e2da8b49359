"""An engine that is absent, closed or of another version is one line."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import Cli
from qk_containers.engine import EngineError, connect

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A socket that nobody listens on."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("closed.sock")
        yield tmp_path / "closed.sock"


@pytest.mark.parametrize("verb", [["build"], ["verify"], ["run", "--", "id"]])
def test_no_engine_is_one_line(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str]) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("container", *verb)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1 and "no container engine answers at unix://" in err and "DOCKER_HOST" in err


def test_a_dead_socket_and_a_bad_address_are_one_line(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (f"unix://{closed}", "tcp://127.0.0.1:1", "nonsense://x"):
        monkeypatch.setenv("DOCKER_HOST", address)
        with pytest.raises(EngineError) as raised:
            connect()
        assert "\n" not in str(raised.value) and address.partition(":")[0] in str(raised.value)


@pytest.mark.engine
def test_a_version_the_engine_does_not_speak_is_one_line(
    cli: Cli, client: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_API_VERSION", "1.99")
    code, _, err = cli("container", "run", "--", "id")
    assert code == 2 and len(err.splitlines()) == 1
    assert "does not speak this version" in err and "unset DOCKER_API_VERSION" in err


@pytest.mark.engine
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_permission_is_one_line(client: DockerClient) -> None:
    here, there = multiprocessing.get_context("fork").Pipe()
    process = multiprocessing.get_context("fork").Process(target=_as_nobody, args=(there,))
    process.start()
    said = here.recv()
    process.join()
    assert "no permission to use the engine at unix://" in said and "\n" not in said


def _as_nobody(answer: object) -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        connect()
        said = "it was let in"
    except EngineError as error:
        said = str(error)
    answer.send(said)  # type: ignore[attr-defined]
