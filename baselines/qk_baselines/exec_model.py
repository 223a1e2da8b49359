"""A model in its own environment: `exec:COMMAND`, spoken to as docs/exec-protocol.md tells.

Research models pin libraries that exclude each other; this way each keeps its own interpreter.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from qk_baselines.exec_worker import Worker, WorkerError
from qk_bench.errors import UnusableModelError, UsageError, folded
from qk_bench.images import ImageProblemError, encode_mask_png, encode_png, read_pixels
from qk_bench.interfaces import Failure, FailureStatus, Model, OwnCheck
from qk_bench.records import Kind, ModelCard, Request

END_SECONDS: Final = 10.0
"""How long a worker may take to end after its input has ended."""
_COMPILED: Final = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How compiled programs begin: those of Linux, those of macOS for one processor and for several."""


class ExecModel(Model):
    """A command that speaks JSON lines on stdin and stdout; restarted when it dies, hangs or talks nonsense.

    Args:
        command: The command and its arguments, quoted as for a shell; it is not run by one.
        timeout: Seconds a request may take.
        start_timeout: Seconds the command may take to get ready.
        name: What to call it in results.
        version: Change it when the output changes. The files the command names are hashed too.
        kinds: What it does: `edit`, `generate`, `compose`.
        uses_region: Whether it is given the mask of the region query.
        deterministic: Whether it ignores the seed because its output does not depend on it.
        unseeded: Whether it cannot be seeded.

    Raises:
        UsageError: The command or an argument cannot be.
    """

    def __init__(
        self,
        command: str,
        *,
        timeout: float = 600.0,
        start_timeout: float = 1500.0,
        name: str = "",
        version: str = "1",
        kinds: Sequence[Kind] | str = ("edit",),
        uses_region: bool = False,
        deterministic: bool = False,
        unseeded: bool = False,
    ) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"exec:{command}: {error}", "quote it as for a shell") from None
        if not self.words:
            raise UsageError("exec: names no command", "such as exec:'python worker.py'")
        for field, seconds in (("timeout", timeout), ("start_timeout", start_timeout)):
            if not (isinstance(seconds, int | float) and 0 < seconds < float("inf")):
                raise UsageError(f"exec: {field}={seconds!r}", "a positive number of seconds")
        kinds = tuple(kinds.split(",")) if isinstance(kinds, str) else tuple(kinds)  # type: ignore[arg-type]
        if not kinds or not set(kinds) <= set(get_args(Kind)):
            raise UsageError(f"exec: kinds={','.join(map(str, kinds))!r}", f"some of {', '.join(get_args(Kind))}")
        self.timeout, self.start_timeout = timeout, start_timeout
        self.worker: Worker | None = None
        self.number = 0
        files = [Path(word) for word in self.words if Path(word).is_file()]
        script = files[-1] if files else Path(self.words[0])
        self.card = ModelCard(
            name=name or f"exec:{script.name}",
            version=str(version),
            weights=_digest(files),
            arguments={"command": command},
            description="A command spoken to by docs/exec-protocol.md.",
            kinds=kinds,
            uses_region=uses_region,
            deterministic=deterministic,
            unseeded=unseeded,
        )

    def setup(self) -> None:
        """Start the command and wait until it is ready."""
        try:
            self.worker = Worker(self.words, self.start_timeout)
        except WorkerError as error:
            raise UsageError(f"{self.card.name}: {error.detail}", "see its log in the run's folder logs/") from None

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """An image for each request; a worker that failed one is replaced before the next."""
        return [self._make(request) for request in requests]

    def _make(self, request: Request) -> NDArray[np.uint8] | Failure:
        if self.worker is None:
            try:
                self.worker = Worker(self.words, self.start_timeout)
            except WorkerError as error:
                raise UnusableModelError(f"{self.card.name} cannot be started again: {error.detail}") from None
        self.number += 1
        try:
            return make(self.worker, request, self.number, self.timeout)
        except WorkerError as error:
            self.worker.kill()
            self.worker = None
            return Failure(error.status, f"{error.detail}; it is started again")

    def own_checks(self, requests: Sequence[Request]) -> Sequence[OwnCheck]:
        """The protocol, each part with a worker of its own."""
        return protocol_checks(self.words, requests, self.timeout, self.start_timeout)


def make(worker: Worker, request: Request, number: int, timeout: float, **more: Any) -> NDArray[np.uint8] | Failure:
    """Ask a worker for one image.

    Raises:
        WorkerError: It cannot be asked again.
    """
    folder = worker.folder / str(number)
    folder.mkdir()
    output = folder / "output.png"
    message = {
        "type": "request", "id": number, "sample_id": request.sample_id, "kind": request.kind,
        "instruction": request.instruction, "width": request.width, "height": request.height, "seed": request.seed,
        "source": None if request.source is None else _write(folder / "source.png", encode_png(request.source)),
        "references": [
            _write(folder / f"reference-{place}.png", encode_png(image)) for place, image in enumerate(request.references)
        ],
        "mask": None
        if request.region is None
        else _write(folder / "mask.png", encode_mask_png(request.region.mask)),
        "output": str(output), **more,
    }  # fmt: skip
    try:
        answer = worker.ask(message, "result", timeout)
        status, detail = answer.get("status"), folded(str(answer.get("detail", "")))
        if status in get_args(FailureStatus):
            return Failure(cast(FailureStatus, status), detail)
        if status != "ok":
            raise WorkerError("invalid_output", folded(f"the worker gave the status {status!r}"))
        if output.is_symlink() or not output.is_file():
            return Failure("invalid_output", "the worker said ok and wrote no image")
        return read_pixels(output)
    except ImageProblemError as problem:
        return Failure("invalid_output", str(problem))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def protocol_checks(
    words: Sequence[str], requests: Sequence[Request], timeout: float, start_timeout: float
) -> list[OwnCheck]:
    """What a worker must do beside answering: the list at the end of docs/exec-protocol.md."""

    def with_worker(find_fault: Callable[[Worker], str]) -> Callable[[], str]:
        def run() -> str:
            try:
                worker = Worker(words, start_timeout)
                try:
                    return find_fault(worker)
                finally:
                    worker.kill()
            except WorkerError as error:
                return error.detail

        return run

    def answers(worker: Worker, number: int, **more: Any) -> str:
        made = make(worker, requests[0], number, timeout, **more)
        return f"{made.status}: {made.detail}" if isinstance(made, Failure) else ""

    def unknown_type(worker: Worker) -> str:
        worker.send({"type": "weather", "id": 1})
        return answers(worker, 2)

    def goes_on(worker: Worker) -> str:
        """A request whose source is not there must be answered, not be the end."""
        missing = str(worker.folder / "missing.png")
        answer = worker.ask(
            {"type": "request", "id": 1, "sample_id": "x", "kind": "edit", "instruction": "x", "width": 8, "height": 8,
             "seed": 0, "source": missing, "references": [], "mask": None, "output": missing},
            "result", timeout,
        )  # fmt: skip
        if answer.get("status") not in get_args(FailureStatus):
            return f"status {answer.get('status')!r} for a source that is not there"
        return answers(worker, 2)

    def ends(worker: Worker) -> str:
        answers(worker, 1)
        code = worker.finish(END_SECONDS)
        if code is None:
            return f"it was still running {END_SECONDS:g} s after its input had ended"
        return f"it left with exit code {code}" if code else ""

    return [
        OwnCheck("protocol: fields it does not know are ignored", "read only the fields you need",
                 with_worker(lambda worker: answers(worker, 1, later={"version": 2}))),
        OwnCheck("protocol: messages it does not know are ignored", "answer only messages of type `request`",
                 with_worker(unknown_type)),
        OwnCheck("protocol: a request that fails is answered and the next one served",
                 "catch what goes wrong and answer status `model_error`", with_worker(goes_on)),
        OwnCheck("protocol: it ends with exit code 0 when its input ends", "leave the loop at the end of stdin",
                 with_worker(ends)),
    ]  # fmt: skip


def _write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def _digest(files: Sequence[Path]) -> str:
    """The sha256 over the files a command names, so that a changed script is a changed model.

    Compiled programs are left out: interpreters differ between machines. So is what may be run and not be read.
    """
    digests = []
    for path in files:
        if os.access(path, os.R_OK):
            with path.open("rb") as file:
                if file.read(4) not in _COMPILED:
                    file.seek(0)
                    digests.append(hashlib.file_digest(file, "sha256").digest())
    return hashlib.sha256(b"".join(digests)).hexdigest() if digests else ""
