"""Reads the log of a build as it streams in: its steps, how long each took and what it added."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from qk_bench.errors import FullDiskError, QKBenchError, folded
from qk_bench.text import plain
from qk_containers.engine import StepError, explained

if TYPE_CHECKING:
    from docker import DockerClient

STEP: Final = re.compile(r"^(?:\[\d+/\d+\] )?step (\d+)/(\d+) ?: (.+)$", re.IGNORECASE)
"""Docker's `Step 2/9 : RUN …`, and Podman's `[1/2] STEP 2/9: RUN …` with the stage before it."""
IMAGE: Final = re.compile(r"^ ?--->? ([0-9a-f]{11,64})$")
KEPT_LINES: Final = 40


@dataclass
class Step:
    """One instruction of a Containerfile."""

    number: str
    instruction: str
    seconds: float = 0.0
    size: int | None = None
    """Bytes that it added to the image; none if the engine does not tell."""


class BuildLog:
    """Follows the stream of a build.

    Args:
        client: Asked for the sizes of what steps made.
        say: Gets each line of the log.
    """

    def __init__(self, client: DockerClient, say: Callable[[str], None]) -> None:
        self._client, self._say = client, say
        self.steps: list[Step] = []
        self.image = ""
        self._started = time.perf_counter()
        self._sizes: dict[str, int] = {}
        self._last: list[str] = []
        self._parent = 0

    def follow(self, stream: Iterable[dict[str, Any]]) -> str:
        """Read a build to its end; gives the ID of its image.

        Raises:
            StepError: A step failed.
            FullDiskError: There was no room for what it made.
        """
        for message in stream:
            if "error" in message:
                raise self._failure(str(message["error"]))
            if "ID" in (message.get("aux") or {}):
                self.image = message["aux"]["ID"]
            for line in message.get("stream", "").splitlines():
                self._line(plain(line.rstrip()))
        self._close()
        if not self.image:
            raise self._failure("the engine gave no image")
        return self.image

    def _line(self, line: str) -> None:
        if not line:
            return
        self._say(line)
        self._last = [*self._last, line][-KEPT_LINES:]
        if found := STEP.match(line):
            self._close()
            number, total, instruction = found.groups()
            self.steps.append(Step(f"{number}/{total}", instruction))
            self._started = time.perf_counter()
        elif found := IMAGE.match(line):
            self._measure(found[1])
        elif line.startswith("Successfully built "):
            self.image = self.image or line.split()[-1]

    def _close(self) -> None:
        if self.steps and not self.steps[-1].seconds:
            self.steps[-1].seconds = time.perf_counter() - self._started

    def _measure(self, image: str) -> None:
        """What a step added: the size of its image, less that of the one before; FROM starts anew."""
        from docker.errors import DockerException

        if not self.steps:
            return
        try:
            size = int(self._client.api.inspect_image(image)["Size"])
        except (DockerException, KeyError):
            return
        fresh = self.steps[-1].instruction.upper().startswith("FROM")
        self.steps[-1].size = size if fresh else size - self._parent
        self._parent = size

    def _failure(self, said: str) -> QKBenchError:
        if any("no space left on device" in line.lower() for line in [*self._last, said]):
            return FullDiskError(
                "the engine's disk is full", "free some of it, such as by `docker system prune`, and build again"
            )
        if not self.steps:
            return explained(said, "the build")
        if "exec format error" in said:
            return explained(said)
        step = self.steps[-1]
        marked = [line for line in self._last if line.lower().startswith("error")]
        lines = [line for line in self._last if not STEP.match(line) and "--->" not in line]
        why = (marked or lines or [said])[-1]
        return StepError(f"step {step.number} of the build failed: {folded(step.instruction)[:100]}: {folded(why)}")
