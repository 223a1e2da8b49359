"""Parts of the container tests: a private engine, a base of one program, a recipe that builds in a second."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import platform
import shutil
import signal
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from docker import DockerClient

CI = os.environ.get("CI") == "true"
BUSYBOX = Path("/bin/busybox")
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
CONTAINERFILE = """\
ARG BASE
FROM ${BASE} AS build
ARG SESSION=none
LABEL org.qk-bench.session=${SESSION}
COPY wheels /wheels
COPY project.whl /
RUN ["/bin/busybox", "mkdir", "-p", "/opt/env", "/opt/qk-bench"]
RUN ["/bin/busybox", "unzip", "-q", "-d", "/opt/env", "/wheels/tiny-1.0-py3-none-any.whl"]
RUN ["/bin/busybox", "unzip", "-q", "-d", "/opt/qk-bench", "/project.whl"]
FROM ${BASE}
ARG SESSION=none
LABEL org.qk-bench.session=${SESSION}
COPY --from=build /opt /opt
COPY files /
ENV PATH=/bin
USER 65532:65532
WORKDIR /work
"""


def unavailable(why: str) -> None:
    """Fail where everything must be there, skip elsewhere."""
    if CI:
        pytest.fail(why)
    pytest.skip(why)


def start_engine(folder: Path, data: Path | None = None) -> subprocess.Popen[bytes]:
    """A Docker engine of our own on a socket in the folder."""
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if os.geteuid() != 0 or program is None:
        unavailable("needs root and dockerd (Debian: docker.io) for an engine of its own")
    assert program is not None
    words = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=overlay2"]
    words += [f"--data-root={data or folder / 'data'}", f"--exec-root={folder / 'exec'}"]
    words += [f"--pidfile={folder / 'pid'}", "-H", f"unix://{folder / 'engine.sock'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *words], stdout=log, stderr=log, start_new_session=True)
    for _ in range(600):
        if (folder / "engine.sock").exists() and "API listen on" in (folder / "log").read_text("utf-8", "replace"):
            return process
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    unavailable(f"dockerd does not start: {(folder / 'log').read_text('utf-8', 'replace')[-500:]}")
    raise AssertionError


def stop_engine(process: subprocess.Popen[bytes]) -> None:
    """End an engine and what it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def leftovers(client: DockerClient) -> list[str]:
    """Containers, and images without a name."""
    containers = [c["Id"] for c in client.api.containers(all=True)]
    images = [i["Id"] for i in client.api.images(filters={"dangling": True})]
    return containers + images


def write_wheel(path: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A wheel of text files; the same files give the same wheel."""
    folder = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{folder}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n",
    }
    contents[f"{folder}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = []
    for inner, text in contents.items():
        mark = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{inner},sha256={mark},{len(text.encode())}\n")
    contents[f"{folder}/RECORD"] = "".join(rows) + f"{folder}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in contents.items():
            archive.writestr(zipfile.ZipInfo(inner, (1980, 1, 1, 0, 0, 0)), text)
    return path


def write_base(path: Path, mark: str = "one") -> Path:
    """A root file system of one static program."""
    if not BUSYBOX.exists():
        unavailable("needs /bin/busybox (Debian: busybox-static)")
    with tarfile.open(path, "w") as archive:
        for name in ("bin", "etc", "tmp"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            archive.addfile(info)
        info = tarfile.TarInfo("bin/busybox")
        info.mode, info.size = 0o755, BUSYBOX.stat().st_size
        with BUSYBOX.open("rb") as program:
            archive.addfile(info, program)
        for name in ("sh", "sleep", "cat", "id", "touch", "grep"):
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(info)
        info = tarfile.TarInfo("etc/mark")
        info.size = len(mark)
        archive.addfile(info, io.BytesIO(mark.encode()))
    return path


class Small:
    """A recipe with its base, one locked wheel and a project's wheel, in a folder."""

    def __init__(self, folder: Path, containerfile: str = CONTAINERFILE) -> None:
        self.recipe, self.wheels = folder / "recipe", folder / "wheels"
        (self.recipe / "locks").mkdir(parents=True)
        (self.recipe / "files" / "bin").mkdir(parents=True)
        (self.recipe / "files" / "bin" / "hello").write_text("#!/bin/sh\necho hello\n")
        self.wheels.mkdir()
        self.containerfile = self.recipe / "Containerfile"
        self.containerfile.write_text(containerfile)
        self.base = write_base(folder / "base.tar")
        self.locked = write_wheel(self.wheels / "tiny-1.0-py3-none-any.whl", "tiny", "1.0", {"tiny.py": "x = 1\n"})
        self.project = write_wheel(folder / "own-0.1-py3-none-any.whl", "own", "0.1", {"own.py": "y = 1\n"})
        self.lock = self.recipe / "locks" / f"default-{ARCHITECTURE}.txt"
        self.write_lock()
        variants = {"default": {"description": "for tests", "python": "3.11", "glibc": [2, 36]}}
        (self.recipe / "image.json").write_text(json.dumps({"variants": variants}))

    def write_lock(self) -> None:
        """Lock the wheel as it is."""
        self.lock.write_text(
            f"tiny==1.0 \\\n    --hash=sha256:{hashlib.sha256(self.locked.read_bytes()).hexdigest()}\n"
        )

    def words(self, *more: str) -> list[str]:
        """Options of build and verify that name all this."""
        return ["--recipe", str(self.recipe), "--wheels", str(self.wheels), "--wheel", str(self.project), *more]

    def build(self, *more: str) -> list[str]:
        """The words of a build on its base."""
        return ["container", "build", *self.words("--base", str(self.base), *more)]


def wait_for(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)
