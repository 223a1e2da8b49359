"""Child processes that are spoken to in messages, and that never outlive their parent.

A message is a pickled object behind its length, over a socket pair. The parent's side never blocks: what a busy or hung
child does not take waits in a buffer, so that one loop can feed the children, notice that one died and enforce time
limits. The child's side is plain blocking calls.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

_HEADER: Final = struct.Struct(">Q")
_CHUNK: Final = 1 << 20


class Child:
    """The parent's end of a child process.

    Args:
        module: The module whose `main` the child runs.
        log: File that receives everything the child prints: its stdout must not mix with ours.
        on_message: Called with each message.
        on_exit: Called once, with the reason, when the child has died by itself.
        environment: Variables set for the child.
    """

    def __init__(
        self,
        loop: Loop,
        module: str,
        log: Path,
        on_message: Callable[[Any], None],
        on_exit: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._loop, self._on_message, self._on_exit = loop, on_message, on_exit
        self._outgoing: list[memoryview] = []
        self._incoming = bytearray()
        self._socket, theirs = socket.socketpair()
        alive, self._alive = os.pipe()
        start = f"from {module} import main; main()"  # not -m: messages are instances of classes of that module
        with log.open("ab") as output, theirs:
            # -P: the current folder must not come onto the child's sys.path
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-X", "faulthandler", "-c", start, str(theirs.fileno()), str(alive)],
                pass_fds=(theirs.fileno(), alive),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )
        os.close(alive)
        self._socket.setblocking(False)
        loop.add(self, self._socket)

    def send(self, message: Any) -> None:
        """Queue a message."""
        data = pickle.dumps(message, protocol=5)
        self._outgoing += [memoryview(_HEADER.pack(len(data))), memoryview(data)]
        self._write()

    def stop(self) -> None:
        """Kill the child at once and forget it."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove(self._socket)
        self._socket.close()
        self._process.kill()
        self._process.wait()
        os.close(self._alive)

    def pump(self, mask: int) -> None:
        """Move bytes that can move. Called by the loop."""
        if mask & selectors.EVENT_WRITE:
            self._write()
        if mask & selectors.EVENT_READ:
            self._read()

    def check(self) -> None:
        """Notice a death that the socket does not tell, because a process that the child has left behind holds it."""
        if self._process.poll() is not None:
            self._read()  # its last words
            if self._socket.fileno() >= 0:
                self._died()

    def _write(self) -> None:
        try:
            while self._outgoing:
                sent = self._socket.send(self._outgoing[0])
                if sent == len(self._outgoing[0]):
                    del self._outgoing[0]
                else:
                    self._outgoing[0] = self._outgoing[0][sent:]
        except BlockingIOError:
            pass
        except OSError:  # the child is gone: reading will say so
            self._outgoing.clear()
        self._loop.want_write(self._socket, bool(self._outgoing))

    def _read(self) -> None:
        ended = False
        try:
            while part := self._socket.recv(_CHUNK):
                self._incoming += part
                if len(part) < _CHUNK:
                    break
            else:
                ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        for message in self._messages():
            self._on_message(message)
            if self._socket.fileno() < 0:  # stopped by what the message led to
                return
        if ended:
            self._died()

    def _messages(self) -> list[Any]:
        messages, start = [], 0
        while len(self._incoming) - start >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._incoming, start)
            end = start + _HEADER.size + length
            if len(self._incoming) < end:
                break
            messages.append(pickle.loads(memoryview(self._incoming)[start + _HEADER.size : end]))
            start = end
        if start:
            del self._incoming[:start]
        return messages

    def _died(self) -> None:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it closed its end but lives on
            self._process.kill()
            code = self._process.wait()
        self.stop()
        self._on_exit(_reason(code))


class Loop:
    """Waits on the children's sockets and lets them move their bytes."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._children: set[Child] = set()

    def add(self, child: Child, sock: socket.socket) -> None:
        """Watch a child."""
        self._selector.register(sock, selectors.EVENT_READ, child)
        self._children.add(child)

    def remove(self, sock: socket.socket) -> None:
        """Stop watching a child."""
        self._children.discard(self._selector.unregister(sock).data)

    def want_write(self, sock: socket.socket, wanted: bool) -> None:
        """Say whether a child has bytes waiting to be sent."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        if sock.fileno() >= 0 and self._selector.get_key(sock).events != events:
            self._selector.modify(sock, events, self._selector.get_key(sock).data)

    def poll(self, timeout: float | None) -> None:
        """Wait until something moves, at most `timeout` seconds."""
        ready = self._selector.select(timeout)
        for key, mask in ready:
            if key.fileobj in self._selector.get_map():  # not removed by an earlier one
                key.data.pump(mask)
        for child in () if ready else list(self._children):
            if child in self._children:
                child.check()

    def close(self) -> None:
        """Kill all children."""
        for child in list(self._children):
            child.stop()
        self._selector.close()


class Parent:
    """The child's end: blocking messages, and death together with the parent."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=int(sys.argv[1]))
        self._socket.setblocking(True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
        _die_with_parent(int(sys.argv[2]))

    def send(self, message: Any) -> None:
        """Send a message."""
        data = pickle.dumps(message, protocol=5)
        self._socket.sendall(_HEADER.pack(len(data)))
        self._socket.sendall(data)

    def receive(self) -> Any:
        """Wait for the next message; leaves the process when there will be none."""
        (length,) = _HEADER.unpack(self._exactly(_HEADER.size))
        return pickle.loads(self._exactly(length))

    def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            got = self._socket.recv_into(view)
            if not got:
                os._exit(0)
            view = view[got:]
        return data


def _die_with_parent(alive: int) -> None:
    """Leave when the parent is gone, even when it was killed.

    The pipe works everywhere but needs a thread to run; on Linux the kernel does it also for code that hangs.
    """
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG

    def wait() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return "the worker was killed (SIGKILL; out of memory?)"
    if code < 0:
        return f"the worker crashed ({signal.Signals(-code).name})"
    return f"the worker left with exit code {code}"
