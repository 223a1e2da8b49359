"""Nothing is left behind, however a command ends.

A command marks what it makes with the label of its session. It sweeps the session itself when it ends, and a second
process sweeps it when the command is killed outright: the pipe between them closes with the command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from qk_containers.engine import sweep

if TYPE_CHECKING:
    from docker import DockerClient

SWEEPS = 20
"""How often the second process looks: an engine may still be finishing a step when its client is gone."""
PAUSE = 0.5


class Terminated(BaseException):
    """SIGTERM, raised so that it unwinds like Ctrl-C."""


@contextlib.contextmanager
def session(client: DockerClient) -> Iterator[str]:
    """A session's label; what carries it is gone at the end, also after SIGTERM and SIGKILL."""
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
            yield label
        finally:
            sweep(client, label)
            with contextlib.suppress(BrokenPipeError):
                reaper.stdin.write(b"done")
                reaper.stdin.close()
            reaper.wait()


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
    import time

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == b"done":
        return
    from qk_containers.engine import connect

    client = connect()
    for _ in range(SWEEPS):
        sweep(client, sys.argv[1])
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
