"""Models that misbehave on one sample, each in its own way; and models that are fine, to run beside them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from qk_bench.interfaces import Failure, Model
from qk_bench.records import ModelCard, Request

GUILTY = "recolour-test-00003"


class SpeechlessError(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError


class Painter(Model):
    """Returns the source with a few pixels that depend on the seed; may take its time."""

    def __init__(self, batch_size: int = 1, seconds: float = 0.0, name: str = "painter") -> None:
        self.seconds = seconds
        self.card = ModelCard(name=name, version="1", batch_size=batch_size, arguments={"seconds": seconds})

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        time.sleep(self.seconds)
        return [self.paint(request) for request in requests]

    def paint(self, request: Request) -> Any:
        assert request.source is not None
        image = request.source.copy()
        image[0, :4] = np.frombuffer(request.seed.to_bytes(12, "big"), np.uint8).reshape(4, 3)
        return image


class Faulty(Painter):
    """A painter that does `fault` on the guilty sample."""

    def __init__(self, fault: str, batch_size: int = 1, guilty: str = GUILTY) -> None:
        super().__init__(batch_size=batch_size, name=f"faulty-{fault}")
        self.fault, self.guilty = fault, guilty

    def setup(self) -> None:
        if self.fault == "setup":
            raise FileNotFoundError("no weights.safetensors\nlook elsewhere")
        if self.fault == "setup crash":
            os.kill(os.getpid(), signal.SIGKILL)

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        images = super().generate(requests)
        if any(request.sample_id == self.guilty for request in requests):
            if self.fault == "count":
                return images[:-1]
            self.whole_batch()
        return images

    def whole_batch(self) -> None:
        """What takes the whole call down."""
        if self.fault == "raise":
            raise ValueError(f"first line\nsecond line of {object()!r}")
        if self.fault == "unprintable":
            raise OSError("no file \udcff\x1b[31m")
        if self.fault == "speechless":
            raise SpeechlessError
        if self.fault == "exit":
            raise SystemExit("left")
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == "orphan":
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            os._exit(7)
        if self.fault == "hang":
            time.sleep(1000)
        if self.fault == "stdout":
            print("{this is not ours}", flush=True)
            os.write(1, b"{neither is this}\n")

    def paint(self, request: Request) -> Any:
        image = super().paint(request)
        if request.sample_id != self.guilty:
            return image
        alpha = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
        nan = np.full(image.shape, np.nan, np.float32)
        made = {
            "float": image / np.float32(255),
            "nan": nan,
            "grey": image[..., 0],
            "alpha": alpha,
            "empty": image[:0],
            "huge": np.broadcast_to(np.zeros(3, np.uint8), (9000, 9000, 3)),
            "none": None,
            "text": "an image",
            "larger": np.kron(image, np.ones((2, 2, 1), np.uint8)),
            "refused": Failure("refused", "not\nallowed"),
            "no failure": Failure("ok", "?"),  # type: ignore[arg-type]
            "pil": Image.fromarray(image),
        }
        modes = ("RGBA", "L", "P", "CMYK", "I;16", "F", "1")
        if self.fault in modes:
            return Image.fromarray(image).convert(self.fault) if self.fault != "I;16" else Image.new("I;16", (64, 64))
        return made.get(self.fault, image) if self.fault in made else image
