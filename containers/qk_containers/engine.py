"""The container engine, Docker's or Podman's, through its socket; its failures as one line each."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from qk_bench.errors import FullDiskError, QKBenchError, UsageError, folded

if TYPE_CHECKING:
    from docker import DockerClient

SESSION_LABEL: Final = "org.qk-bench.session"
"""Marks what one command made and must not leave behind."""
MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
REQUEST_SECONDS: Final = 3600.0
"""How long the engine may be silent: a step of a build may take long without a word."""


class EngineError(QKBenchError):
    """The engine is not there, refuses, or failed at what it was asked (exit code 2)."""


class StepError(QKBenchError):
    """A step of a build failed (exit code 1)."""

    exit_code = 1


def connect() -> DockerClient:
    """A client of the engine that DOCKER_HOST names, or of the usual socket.

    Raises:
        UsageError: The SDK is not installed.
        EngineError: There is no engine, it may not be used, or it does not speak the version asked for.
    """
    try:
        import docker
    except ImportError:
        raise UsageError("the Docker SDK is not installed", "pip install 'qk-bench[container]'") from None
    with translated():
        version = os.environ.get("DOCKER_API_VERSION") or "auto"
        client = docker.from_env(version=version, timeout=REQUEST_SECONDS)
        try:
            client.ping()
        except BaseException:
            client.close()
            raise
    return client


def host() -> str:
    """Where the engine is looked for."""
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def engine_failures() -> tuple[type[Exception], ...]:
    """What the SDK raises where an engine refuses or is gone; in the middle of a stream those are urllib3's own."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    return DockerException, RequestException, HTTPError


@contextlib.contextmanager
def translated(doing: str = "") -> Iterator[None]:
    """Turn what the SDK raises into one line that names the cause and the mend.

    Args:
        doing: What was being done, for failures that have no line of their own.

    Raises:
        EngineError: The engine could not be reached or refused.
        FullDiskError: The engine's disk is full.
    """
    try:
        yield
    except engine_failures() as error:
        raise explained(str(error), doing) from None


def explained(text: str, doing: str = "") -> QKBenchError:
    """What an engine or its SDK said, as an error with a mend."""
    where = host()
    if "no space left on device" in text.lower():
        return FullDiskError(
            "the engine's disk is full", "free some of it, such as by `docker system prune`, and start again"
        )
    if "PermissionError" in text:  # of the socket: what the engine itself may not do, it says in words of its own
        return EngineError(
            f"no permission to use the engine at {where}",
            "join its group, or point DOCKER_HOST at an engine of your own",
        )
    if found := re.search(r"client version [\d.]+ is too (?:old|new)\.[^\"')]*", text):
        return EngineError(
            f"the engine at {where} does not speak this version: {folded(found[0])}",
            "unset DOCKER_API_VERSION, or update the engine",
        )
    absent_gpu = ("could not select device driver", "nvidia.com/gpu")  # Docker's words, and Podman's device
    if any(part in text for part in absent_gpu) or (
        "nvidia" in text.lower() and "unknown or invalid runtime" in text.lower()
    ):
        return EngineError(
            "the engine cannot pass a GPU on",
            "install the NVIDIA Container Toolkit, for Podman with its CDI file, or use --gpus none",
        )
    if "exec format error" in text.lower():
        return EngineError(
            "the image is of another platform than this machine", "install qemu-user-static, or build on such a machine"
        )
    absent = (
        "FileNotFoundError",
        "Connection refused",
        "Name or service not known",
        "Error while fetching server API version",
        "Not supported URL scheme",
        "Connection aborted",
        "Connection broken",
        "Response ended prematurely",
        "Max retries",
    )
    if any(part in text for part in absent):
        return EngineError(
            f"no container engine answers at {where}", "start Docker, or `podman system service`, or set DOCKER_HOST"
        )
    return EngineError(f"{doing or 'the engine'}: {folded(text)}")


def sweep(client: DockerClient, session: str) -> bool:
    """Remove the containers and the untagged images that a session made.

    Returns:
        Whether all are gone. An engine may still be busy with one: then sweep again later.
    """
    from docker.errors import APIError

    label = {"label": f"{SESSION_LABEL}={session}"}
    for container in client.api.containers(all=True, filters=label):
        with contextlib.suppress(APIError):  # already being removed
            client.api.remove_container(container["Id"], force=True, v=True)
    unnamed = {**label, "dangling": "true"}
    for image in client.api.images(all=True, filters=unnamed):
        with contextlib.suppress(APIError):  # another image stands on it, which goes first
            client.api.remove_image(image["Id"])
    return not client.api.containers(all=True, filters=label) and not client.api.images(filters=unnamed)


def architecture(client: DockerClient) -> str:
    """The engine's own platform, such as `linux/amd64`."""
    with translated():
        said: dict[str, Any] = client.version()
    return _platform(said.get("Os"), said["Arch"])


def platform_of(image: dict[str, Any]) -> str:
    """The platform of an image, by what the engine says of it."""
    return _platform(image.get("Os"), image["Architecture"])


def _platform(system: str | None, machine: str) -> str:
    return f"{system or 'linux'}/{MACHINES.get(machine, machine)}"
