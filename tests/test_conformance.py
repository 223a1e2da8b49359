"""The conformance checks catch what they are there to catch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty import Painter
from harness import SQUARES

from qk_bench.conformance import check_model, check_task, failures
from qk_bench.plugins import find_tasks
from qk_bench.records import Request, Sample


@pytest.fixture
def samples() -> list[Sample]:
    task = find_tasks([f"{SQUARES}/recolour"])[0].task
    return [task.sample("test", index, 48) for index in range(3)]


class Forgetful(Painter):
    """Draws noise from a generator of its own."""

    noise = np.random.default_rng(0)

    def paint(self, request: Request) -> Any:
        image = super().paint(request)
        image[1] = self.noise.integers(0, 256, image[1].shape)
        return image


class Mixing(Painter):
    """Lets the requests of a batch leak into each other."""

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        images = super().generate(requests)
        return [image + images[-1][0, 3] for image in images]


class Deaf(Painter):
    """Does not listen to the seed."""

    def paint(self, request: Request) -> Any:
        return request.source


class Vandal(Painter):
    """Paints on its input."""

    def paint(self, request: Request) -> Any:
        image = super().paint(request)
        assert request.source is not None
        request.source[-1, -1] ^= 1
        return image


class Fickle(Painter):
    """Says that it is deterministic, and is not."""

    def __init__(self) -> None:
        super().__init__()
        self.card = self.card.model_copy(update={"deterministic": True})


class Short(Painter):
    def generate(self, requests: Sequence[Request]) -> list[Any]:
        return super().generate(requests)[1:]


class Unloadable(Painter):
    def setup(self) -> None:
        raise OSError("no weights")


@pytest.mark.parametrize(
    ("model", "broken"),
    [
        (Forgetful(), "the same seed gives the same output"),
        (Mixing(batch_size=3), "outputs do not depend on the rest of the batch"),
        (Deaf(), "another seed gives another output, unless declared deterministic"),
        (Vandal(), "requests are left unchanged"),
        (Fickle(), "another seed gives another output, unless declared deterministic"),
        (Short(batch_size=2), "one output per request"),
        (Unloadable(), "its weights load"),
    ],
)
def test_model_that_breaks_a_promise_is_caught(model: Painter, broken: str, samples: list[Sample]) -> None:
    failed = failures(check_model(model, samples))
    assert broken in {check.name for check in failed}
    assert all(check.reason and check.mend for check in failed)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_model_that_keeps_its_promises_passes(batch_size: int, samples: list[Sample]) -> None:
    assert failures(check_model(Painter(batch_size=batch_size), samples)) == []


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("rng = np.random.default_rng([", "rng = np.random.default_rng() if index == 3 else np.random.default_rng([", "samples are pure functions"),
        ("np.random.default_rng([len(split),", "np.random.default_rng([hash(split) % 1000,", "samples are the same in another process"),
        ("np.random.default_rng([len(split),", "np.random.default_rng([0,", "splits share no sample"),
        ("{index:05d}", "{index // 2:05d}", "ids are unique and safe as file names"),
        ('operation=self.operations[0]', 'operation="paint"', "samples say what they are"),
        ("target[mask] = COLOURS[after]", "target[mask] = COLOURS[before]", "the unedited source fails verification"),
        ("target[mask] = COLOURS[after]", "target[mask] = COLOURS[after]; target[0, 0] = 1", "edit masks cover all changes"),
        ("success=not off.any()", "success=bool(off.any())", "the answer passes its own verification"),
        ("        image = resample(image, sample.width, sample.height)\n", "", "verification takes outputs of any size"),
        ("        off =", "        sample.target[0, 0] ^= 1\n        off =", "verification is repeatable and changes nothing"),
    ],
)  # fmt: skip
def test_task_that_breaks_a_promise_is_caught(old: str, new: str, broken: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.py"
    text = Path(SQUARES.partition(":")[0]).read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    failed = failures(check_task(find_tasks([f"{path}:SUITE/recolour"])[0], count=6))
    assert broken in {check.name for check in failed}
    assert all(check.reason and check.mend for check in failed)
