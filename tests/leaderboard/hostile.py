"""A suite and models whose every text tries to break out of the page that shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Failure, Model, Suite, Task
from qk_bench.records import ModelCard, Request, Sample, Verdict

SCRIPT = "<script>window.broken=1</script>"
HANDLER = '"><img src=x onerror="window.broken=1">'
LINK = "javascript:window.broken=1"
ESCAPE = "../../../etc/passwd"
OVERRIDE = "safe\u202egnp.exe\u202c\u2028"
TEMPLATE = "{{ 7 * 7 }}${7*7}</template></script></style><!--"
FORMULA = "=HYPERLINK(1)"


class Breaking(Task):
    """Every text of its samples is hostile."""

    suite, version = "hostile", f"1{SCRIPT}"
    name = f"{ESCAPE}{HANDLER}"
    description = f"{SCRIPT}{OVERRIDE}"
    operations = (HANDLER,)

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        rng = np.random.default_rng(index)
        source = rng.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
        texts = (SCRIPT, HANDLER, LINK, ESCAPE, OVERRIDE, TEMPLATE, FORMULA)
        return Sample(
            id=f"hostile-{index:03d}", suite=self.suite, suite_version=self.version, task=self.name, operation=HANDLER,
            split=split, index=index, cluster=f"{SCRIPT}{index}", instruction=texts[index % len(texts)],
            width=resolution, height=resolution, source=source, target=255 - source,
        )  # fmt: skip

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        right = sample.target is not None and np.array_equal(image, sample.target)
        return Verdict(success=right, reason="" if right else f"{HANDLER}: {SCRIPT}{OVERRIDE}")


class HostileSuite(Suite):
    """One task."""

    name, version = "hostile", f"1{SCRIPT}"
    tasks = {Breaking.name: Breaking()}

    def digest(self) -> str:
        return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


SUITE = HostileSuite()


class _Hostile(Model):
    text = ""

    def __init__(self) -> None:
        self.card = ModelCard(
            name=self.text,
            version=SCRIPT,
            weights=HANDLER,
            arguments={SCRIPT: HANDLER},
            description=f"{SCRIPT}{LINK}{OVERRIDE}",
        )

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> NDArray[np.uint8] | Failure:
        assert request.source is not None
        if request.seed % 5 == 0:
            return Failure("refused", f"{HANDLER}{SCRIPT}")
        return 255 - request.source if request.seed % 2 else request.source


class InName(_Hostile):
    text = f"{SCRIPT}{HANDLER}"


class InLink(_Hostile):
    text = LINK


class InPath(_Hostile):
    text = ESCAPE


class InOrder(_Hostile):
    text = OVERRIDE


class InTemplate(_Hostile):
    text = TEMPLATE


class InFormula(_Hostile):
    text = FORMULA
