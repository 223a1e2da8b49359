"""Nothing is left behind, however a command ends.

A command marks what it makes in the engine with the label of its session, and makes its files in folders that the
session knows of. It removes both itself when it ends, and a second process does so when the command is killed outright:
the pipe between them, through which it hears of the folders, closes with the command.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Final, NoReturn

from qk_containers.engine import EngineError, connect, engine_failures, sweep

if TYPE_CHECKING:
    from docker import DockerClient

PATIENCE: Final = 5.0
"""Seconds that a command waits for a busy engine to let go of what it made; the second process then takes over."""
LATER: Final = 120.0
"""Seconds that the second process tries."""
PAUSE: Final = 0.2
DONE: Final = b"done"


class Terminated(BaseException):
    """SIGTERM, raised so that it unwinds like Ctrl-C."""


@dataclass(frozen=True)
class Session:
    """What a command marks what it makes with.

    Args:
        label: For what it makes in the engine.
        pipe: To the second process.
    """

    label: str
    pipe: IO[bytes]

    @contextlib.contextmanager
    def scratch(self, parent: Path | None = None) -> Iterator[Path]:
        """A folder that is gone at the end.

        Args:
            parent: Where it is made; the folder for temporary files if none.
        """
        folder = (parent or Path(tempfile.gettempdir())) / f".qk-bench-{uuid.uuid4().hex}"
        with contextlib.suppress(BrokenPipeError):
            self.pipe.write(os.fsencode(folder.absolute()) + b"\0")  # before it is there
            self.pipe.flush()
        folder.mkdir(0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


@contextlib.contextmanager
def session(client: DockerClient) -> Iterator[Session]:
    """A session; what belongs to it is gone at the end, also after SIGTERM and SIGKILL."""
    label = uuid.uuid4().hex
    reaper = subprocess.Popen(
        [sys.executable, "-m", "qk_containers.guard", label],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert reaper.stdin is not None
    with _terminable():
        try:
            yield Session(label, reaper.stdin)
        finally:
            done = DONE if swept(client, label, PATIENCE) else b""
            with contextlib.suppress(BrokenPipeError):
                reaper.stdin.write(done)
                reaper.stdin.close()
            if done:
                reaper.wait()


def swept(client: DockerClient, label: str, seconds: float) -> bool:
    """Sweep a session until all is gone or the time is over; gives which of the two. An engine may be gone as well."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(*engine_failures()):
            if sweep(client, label):
                return True
        if time.monotonic() >= end:
            return False
        time.sleep(PAUSE)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Terminated:
        signal.signal(signal.SIGTERM, before)
        os.kill(os.getpid(), signal.SIGTERM)
        raise KeyboardInterrupt from None  # where SIGTERM is ignored
    finally:
        signal.signal(signal.SIGTERM, before)


def main() -> None:
    """Wait until the command ends; sweep for it if it could not."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    *folders, end_of_it = sys.stdin.buffer.read().split(b"\0")
    if end_of_it == DONE:
        return
    end = time.monotonic() + LATER
    clean = False
    while not clean and time.monotonic() < end:
        time.sleep(PAUSE)  # the engine notices by itself that its client is gone
        for folder in folders:  # a pip that outlived the command may still write there, and then fails
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(EngineError):  # it is gone itself, and may come back
            clean = swept(connect(), sys.argv[1], PATIENCE) and not any(map(os.path.lexists, folders))


if __name__ == "__main__":
    main()
