"""A worker process spoken to in JSON lines: started, asked, and ended. The protocol is told in docs/exec-protocol.md."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qk_bench.errors import folded
from qk_bench.interfaces import FailureStatus

PROTOCOL: Final = 1
MAX_LINE: Final = 1 << 20  # bytes
GUARD: Final = Path(__file__).with_name("exec_guard.py")


class WorkerError(Exception):
    """What a worker did instead of answering.

    Args:
        status: The outcome of the request it was asked.
        detail: One line.
    """

    def __init__(self, status: FailureStatus, detail: str) -> None:
        super().__init__(detail)
        self.status: FailureStatus = status
        self.detail = detail


class Worker:
    """A running worker.

    Args:
        command: The words of the command.
        timeout: Seconds it may take to get ready.

    Raises:
        WorkerError: It does not start, or does not say that it is ready.
    """

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qk-bench-exec-"))
        theirs, self._alive = os.pipe()
        self._buffer = bytearray()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(theirs), str(self.folder), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=(theirs,),
            )  # what it prints to stderr goes where ours goes: to the log of the run
        finally:
            os.close(theirs)
        self.ready: Mapping[str, Any] = {}
        try:
            self.ready = self.ask({"type": "hello", "protocol": PROTOCOL}, "ready", timeout)
            if self.ready.get("protocol") != PROTOCOL:
                what = f"the worker speaks protocol {self.ready.get('protocol')!r}, not {PROTOCOL}"
                raise WorkerError("model_error", folded(what))
        except WorkerError:
            self.kill()
            raise

    def ask(self, message: Mapping[str, Any], answer: str, timeout: float) -> dict[str, Any]:
        """Send a message and wait for the answer to it.

        Args:
            message: What is sent; if it has an `id`, the answer must have the same.
            answer: The `type` the answer must have.
            timeout: Seconds.

        Raises:
            WorkerError: Anything else than that answer came, or nothing.
        """
        self.send(message)
        line = self._line(time.monotonic() + timeout, timeout)
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("type") != answer or found.get("id") != message.get("id"):
            about = f" for request {message['id']}" if "id" in message else ""
            said = folded(line[:120].decode("utf-8", "replace"))
            raise WorkerError("invalid_output", folded(f"the worker said {said!r}, expected {answer!r}{about}"))
        return found

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; that nobody reads it any more is found out when the answer is read."""
        assert self._process.stdin is not None
        data = memoryview(json.dumps(message).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[self._process.stdin.write(data) :]

    def finish(self, timeout: float) -> int | None:
        """Close its input and wait for its end.

        Returns:
            Its exit code; None if it had to be killed.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and all that it started."""
        if self._alive < 0:
            return
        os.close(self._alive)  # the guard sees it
        self._alive = -1
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _line(self, deadline: float, timeout: float) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if len(self._buffer) > MAX_LINE:
                    raise WorkerError("invalid_output", f"the worker sent a line of more than {MAX_LINE} bytes")
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise WorkerError("timeout", f"the worker gave no answer within {timeout:g} s")
                part = self._process.stdout.read(1 << 16)
                if not part:
                    raise WorkerError("model_error", self._death())
                self._buffer += part
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return bytes(line)

    def _death(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "the worker closed its output"
        if code == 127:
            return "the command was not found"
        return (
            f"the worker was killed by signal {code - 128}" if code > 128 else f"the worker left with exit code {code}"
        )
