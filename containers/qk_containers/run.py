"""Runs a command in the image: read-only root, no network, no capabilities, never as root; signals and exit code pass."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from qk_bench.errors import UsageError
from qk_bench.run.environment import IMAGE_VARIABLE
from qk_bench.weights import cache_folder
from qk_containers.engine import SESSION_LABEL, connect, engine_failures, translated
from qk_containers.guard import session
from qk_containers.verify import inspect

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

WORK: Final = PurePosixPath("/work")
CACHE: Final = "/cache"
OWNER: Final = 65532
"""The image's own user and group."""
SYSTEM: Final = frozenset(
    ("bin", "boot", "cache", "dev", "etc", "lib", "lib64", "opt", "proc", "run", "sbin", "sys", "usr")
)
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PATIENCE: Final = 3
"""The signal of this number kills, whatever the command does about signals."""
KILLED: Final = 128 + signal.SIGKILL
"""The exit code of what was ended by SIGKILL."""
GPU_DRIVER: Final = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Job:
    """A command and the fences around it.

    Args:
        command: Program and arguments.
        tag: The image.
        runs: Folder that the command may write to.
        read: Files and folders it may read besides.
        weights: Folder of pretrained weights; the cache folder if none, where there is one.
        network: Name of an engine's network; `none` for none.
        memory: Such as `8g`.
        pids: Processes and threads at once.
        cpus: Processors; all if none.
        gpus: `auto` passes GPUs on where there are any.
        environment: `NAME=value`.
    """

    command: tuple[str, ...]
    tag: str
    runs: Path = Path("runs")
    read: tuple[Path, ...] = ()
    weights: Path | None = None
    network: str = "none"
    memory: str = "8g"
    pids: int = 1024
    cpus: float | None = None
    gpus: Literal["auto", "all", "none"] = "auto"
    environment: tuple[str, ...] = ()


def run(job: Job) -> int:
    """Run a command in a container and stream what it prints; gives its exit code. The container is gone afterwards.

    Raises:
        UsageError: There is no image, or a folder cannot be used.
        EngineError: The engine refused.
    """
    client = connect()
    try:
        said = inspect(client, job.tag)
        options = _options(client, job, said)
        with session(client) as own, translated("starting the container"):
            container = client.containers.create(
                said["Id"], list(job.command), labels={SESSION_LABEL: own.label}, **options
            )
            return _follow(container, job)
    finally:
        client.close()


def _follow(container: Container, job: Job) -> int:
    """Start, stream, wait."""
    with _forwarded(container) as started:
        container.start()
        started()
        pumps = [
            threading.Thread(target=_pump, args=(container, stream, sink), daemon=True)
            for stream, sink in (("stdout", sys.stdout.buffer), ("stderr", sys.stderr.buffer))
        ]
        for pump in pumps:
            pump.start()
        code = int(container.wait(timeout=None)["StatusCode"])
        for pump in pumps:
            pump.join()
    container.reload()
    mend = f"(give it more with --memory; it had {job.memory})"
    if container.attrs["State"].get("OOMKilled"):
        print(f"error: the command met its memory limit {mend}", file=sys.stderr)
    elif code == KILLED:  # what met its limit may end before the engine hears why: it then never says so
        print(f"error: the command was killed: by a signal, or at its memory limit {mend}", file=sys.stderr)
    return code


def _pump(container: Container, stream: str, sink: IO[bytes]) -> None:
    """Carry one stream of the container to one of ours, until it ends, our reader is gone, or the engine is.

    That the engine is gone is said by who waits for the container.
    """
    with contextlib.suppress(*engine_failures()):
        try:
            for block in container.logs(stream=True, follow=True, stdout=stream == "stdout", stderr=stream == "stderr"):
                sink.write(block)
                sink.flush()
        except BrokenPipeError:
            container.kill("SIGTERM")


@contextlib.contextmanager
def _forwarded(container: Container) -> Iterator[Any]:
    """Pass signals on to the container; those that come before it runs are kept until it does."""
    from docker.errors import APIError

    kept: list[int] = []
    running = False
    count = 0

    def send(number: int) -> None:
        with contextlib.suppress(APIError):  # it ended by itself
            container.kill("SIGKILL" if count >= PATIENCE else signal.Signals(number).name)

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if running:
            send(number)
        else:
            kept.append(number)

    def started() -> None:
        nonlocal running
        running = True
        for number in kept:
            send(number)

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _options(client: DockerClient, job: Job, image: dict[str, Any]) -> dict[str, Any]:
    from docker.errors import DockerException
    from docker.utils import parse_bytes

    try:
        memory = parse_bytes(job.memory)
    except DockerException:
        raise UsageError(f"--memory {job.memory}", "a number with k, m or g, such as 8g") from None
    binds, user = _mounts(job)
    environment = dict(_variables(job.environment))
    environment[IMAGE_VARIABLE] = json.dumps(_identity(job.tag, image), sort_keys=True)
    options: dict[str, Any] = {
        "user": user,
        "volumes": binds,
        "working_dir": str(WORK),
        "environment": environment,
        "read_only": True,
        "network_mode": job.network,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": job.pids,
        "tmpfs": {"/tmp": "rw,nosuid,nodev,noexec,size=2g,mode=1777"},
        "init": True,
    }
    if job.cpus:
        options["nano_cpus"] = int(job.cpus * 1e9)
    with translated():
        info = client.info()
        podman = any("podman" in part.get("Name", "").lower() for part in client.version().get("Components") or ())
    if podman and any("rootless" in option for option in info.get("SecurityOptions") or ()):
        options["userns_mode"] = "keep-id"
    if job.gpus == "all" or (job.gpus == "auto" and GPU_DRIVER.exists()):
        options |= _gpus(podman)
    return options


def _gpus(podman: bool) -> dict[str, Any]:
    from docker.types import DeviceRequest

    if podman:
        return {"devices": ["nvidia.com/gpu=all"]}
    return {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]}


def _identity(tag: str, image: dict[str, Any]) -> dict[str, str]:
    """What the manifest of a run made inside says of the image."""
    labels = image["Config"].get("Labels") or {}
    told = {
        "variant": "org.qk-bench.variant",
        "lock": "org.qk-bench.lock",
        "revision": "org.opencontainers.image.revision",
        "base": "org.opencontainers.image.base.digest",
    }
    return {"name": tag, "id": image["Id"], **{key: labels[label] for key, label in told.items() if labels.get(label)}}


def _variables(pairs: Sequence[str]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"--env {pair} is not NAME=value")
        yield name, value


def _mounts(job: Job) -> tuple[dict[str, dict[str, str]], str]:
    """What is mounted where, and the user who may write to the run folder."""
    user = _writable(job.runs)
    binds = {str(job.runs.resolve()): {"bind": str(inside(job.runs)), "mode": "rw"}}
    for path in job.read:
        if not path.exists():
            raise UsageError(f"--read {path}: there is none")
        if path.resolve() == job.runs.resolve():
            raise UsageError(f"--read {path} is the folder of --runs", "it is readable already")
        binds[str(path.resolve())] = {"bind": str(inside(path)), "mode": "ro"}
    weights = job.weights or cache_folder()
    if job.weights and not job.weights.is_dir():
        raise UsageError(f"--weights {job.weights}: there is no such folder")
    if weights.is_dir():
        binds[str(weights.resolve())] = {"bind": CACHE, "mode": "ro"}
    return binds, user


def inside(path: Path) -> PurePosixPath:
    """Where a path is in the container: below /work what is below the current folder, so that relative names hold;
    anything else where it is outside.

    Raises:
        UsageError: It would hide a part of the image.
    """
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    if absolute == here:
        raise UsageError(f"{path}: the current folder itself is not mounted", "name a folder in it")
    if absolute.is_relative_to(here):
        return WORK / absolute.relative_to(here).as_posix()
    place = PurePosixPath(absolute.as_posix())
    if len(place.parts) < 2 or place.parts[1] in SYSTEM or str(place) in ("/tmp", str(WORK)):
        raise UsageError(f"{path} would hide a part of the image", "work from the folder above it")
    return place


def _writable(folder: Path) -> str:
    """The user and group to run as, who may write to the folder; it is made if it is absent.

    Raises:
        UsageError: There is no such user but root.
    """
    fresh = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--runs {folder} cannot be made: {error.strerror}", "name another folder") from None
    if os.geteuid() != 0:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"--runs {folder} may not be written", "name a folder of your own")
        return f"{os.geteuid()}:{os.getegid()}"
    if fresh:
        os.chown(folder, OWNER, OWNER)
    owner = folder.stat()
    if owner.st_uid == 0:
        raise UsageError(
            f"--runs {folder} belongs to root, and nothing in the container runs as root",
            f"chown {OWNER}:{OWNER} {folder}, or name another folder",
        )
    return f"{owner.st_uid}:{owner.st_gid}"
