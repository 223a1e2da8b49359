"""The three things a plug-in can be: a Model, a Suite of Tasks, a Metric. Each is small on purpose.

A plug-in is found through an entry point (`qk_bench.models`, `qk_bench.tasks`, `qk_bench.metrics`) or named as
`path/to/file.py:ClassName`. `qkbench check model NAME` and `qkbench check task NAME` prove that it keeps its promises.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.records import Kind, MetricColumn, ModelCard, Request, Sample, Verdict

if TYPE_CHECKING:
    from PIL import Image

Need = Literal["source", "target", "edit_mask"]
FailureStatus = Literal["model_error", "invalid_output", "refused", "missing", "timeout"]


@dataclass(frozen=True)
class Failure:
    """A model's own word that it has no image for a request."""

    status: FailureStatus
    detail: str = ""


@dataclass(frozen=True)
class OwnCheck:
    """A promise of one adapter: its name, what to do if it is broken, and what finds the fault (empty: none)."""

    name: str
    mend: str
    find_fault: Callable[[], str]


class Model(ABC):
    """An image editor or generator behind one method.

    The constructor is cheap: it only fills `card`, and it takes what follows the name in `NAME:ARGUMENT` (if anything)
    plus the `--model-arg key=value` pairs as keyword arguments. `setup` loads weights; it runs in the worker process.
    """

    card: ModelCard

    def setup(self) -> None:  # noqa: B027 (most models without weights need none)
        """Load weights. Called once, in the process that generates."""

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> Sequence[NDArray[np.uint8] | Image.Image | Failure]:
        """Turn requests into images, in order.

        Args:
            requests: Exactly `card.batch_size` requests of one size and kind; a short batch is padded by repetition.
                After the model ran out of memory there are half as many, again and again if need be, down to one.

        Returns:
            For each request an (H, W, 3) uint8 sRGB array, a PIL image, or a `Failure`.

        Raises:
            UnusableModelError: Nothing more can be answered, such as when a service refuses the key: the remaining
                requests are left open. Whatever else is raised fails the requests of this call.
        """

    def usage(self) -> Mapping[str, float]:
        """What was used since `setup`, such as calls and cost, for the manifest. Sums over processes; never falls."""
        return {}

    def own_checks(self, requests: Sequence[Request]) -> Sequence[OwnCheck]:
        """What `qkbench check model` checks beside the promises of every model, such as a protocol."""
        return ()


class Task(ABC):
    """A family of samples with a checkable answer, and the judge of answers."""

    name: str
    suite: str
    version: str
    kind: Kind = "edit"
    description: str = ""
    operations: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test",)
    decides: bool = True
    """False where no rule can tell success from the pixels: `success` then has no value, and `verify` is not asked."""
    rule: str = ""
    """What decides success, for the task's page; empty: the docstring of `verify` says it."""

    def size(self, split: str) -> int | None:
        """Number of samples in a split; None if it has no end."""
        return None

    def check_asked(self, split: str, resolution: int, low: int, high: int) -> None:
        """Refuse a split that the task does not have, and a resolution that it is not drawn at.

        Raises:
            UsageError: One of the two; it names what there is.
        """
        if split not in self.splits:
            raise UsageError(f"split {split!r} is not one of {', '.join(self.splits)}", "name another --split")
        if not low <= resolution <= high:
            raise UsageError(
                f"{self.suite} is drawn at {low} to {high} pixels a side, not {resolution}", "name another --resolution"
            )

    def unusable(self, split: str, indices: Iterable[int], resolution: int) -> Mapping[int, str]:
        """Which of some samples cannot be made, and why: file, item, what is wrong. A run leaves them out and says so.

        For faults of a user's data that would take too long to find in all of it when the suite is loaded (those go into
        `Suite.problems`): it is asked of the samples of a run only.
        """
        return {}

    @abstractmethod
    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """The sample at `index`, at `resolution` pixels a side. A pure function."""

    @abstractmethod
    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Decide whether an output image does what the instruction asks.

        Args:
            sample: The sample, answer included.
            image: The (H, W, 3) uint8 output, of any size.
        """


class Suite(ABC):
    """A named, versioned set of tasks, and the names of groups of them."""

    name: str
    version: str
    verifier_version: str = "1"
    """Of the rules by which its tasks' `verify` decides: raise it with every change that can change a verdict."""
    tasks: Mapping[str, Task]
    groups: Mapping[str, tuple[str, ...]] = {}
    diagnostics: frozenset[str] = frozenset()
    """Tasks that are no part of what the suite scores: they are run only if they are named, and pooled with no others."""
    own_size: bool = False
    """True where samples keep the size of their pictures: the resolution of a run has no effect."""
    problems: Sequence[str] = ()
    """Items of the user's data that are left out, one line each: file, item, what is wrong."""
    notes: Sequence[str] = ()
    """What else the user is to know of how the data was read, one line each, such as which split was taken."""

    @abstractmethod
    def digest(self) -> str:
        """A sha256 of everything that decides the content of the samples."""


@dataclass(frozen=True)
class Scored:
    """One output image beside its sample: what a metric sees."""

    sample: Sample
    image: NDArray[np.uint8]  # (H, W, 3), already at the sample's size
    seed: int
    task: Task
    returned: NDArray[np.uint8]  # (H, W, 3), at the size the model returned


class Metric(ABC):
    """Base of metrics: what it is called, what it needs, whether it can run here."""

    needs: ClassVar[frozenset[Need]] = frozenset()
    kinds: ClassVar[frozenset[Kind]] = frozenset(("edit", "generate", "compose"))
    default: ClassVar[bool] = True  # computed unless the user names metrics

    @property
    @abstractmethod
    def columns(self) -> tuple[MetricColumn, ...]:
        """The columns of values this metric produces."""

    def availability(self) -> tuple[bool, str]:
        """Whether the metric can run here, and if not, the mend. Must be quick and import nothing heavy."""
        return True, ""


@dataclass(frozen=True)
class Value:
    """One value of a sample metric; `value` is None where it is undefined, and `reason` says why."""

    value: float | None
    reason: str = ""
    status: Literal["unavailable", "judge_error"] = "unavailable"  # what a missing value counts as


class SampleMetric(Metric):
    """A metric of single outputs."""

    @abstractmethod
    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """Values for each item, one per column. Must not depend on how items are grouped into calls."""


@dataclass(frozen=True)
class SetValue:
    """A metric value of a whole set of outputs, with its interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str = ""
    id: str = ""  # the column's id completed with what only the set tells, such as its size; empty: the column's id


class SetMetric(Metric):
    """A metric of a whole set, such as FID. `compute` streams: it must not hold the images.

    Items come ordered by sample, so that the seeds of one sample follow each other.
    """

    takes_failed: ClassVar[bool] = False
    """Whether `compute` is handed the bare `Sample`, too, in the place of each outcome without an image."""

    @abstractmethod
    def compute(self, items: Iterator[Scored]) -> tuple[SetValue, ...]:
        """One value per column over all items of one (model, task)."""
