"""Metrics of two plain folders of images: of their distributions, and of the pairs of files that share a name."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.images import ImageProblemError, read_pixels, resample
from qk_bench.interfaces import Metric, SampleMetric, Scored, Task, Value
from qk_bench.metrics.distribution import DistributionMetric
from qk_bench.metrics.features import FeatureReader
from qk_bench.metrics.resize import Resize
from qk_bench.outputs import SUFFIXES
from qk_bench.records import MetricColumn, Sample, Verdict
from qk_bench.run.score import PIXELS_AT_ONCE, compute_each
from qk_bench.safe_read import WeightsError
from qk_bench.stats import mean_interval

_AHEAD = 4  # images decoded before they are asked for
Progress = Callable[[str, int, int], None]
"""Told what is being done, how many of it are done, and how many there are."""
NO_PAIRS = "compares pairs, and no file of one folder is named like one of the other"


@dataclass
class Folder:
    """Images of a folder, by name. Files that cannot be read are left out and listed in `broken` as they are met."""

    path: Path
    broken: dict[str, str] = field(default_factory=dict)
    _readable: int | None = None

    def __post_init__(self) -> None:
        """List the files.

        Raises:
            UsageError: The folder does not exist or holds no image file.
        """
        if not self.path.is_dir():
            raise UsageError(f"there is no folder {self.path}")
        self.files = sorted(file for file in self.path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
        if not self.files:
            raise UsageError(f"{self.path} holds no image", f"known: {', '.join(SUFFIXES)}")

    def readable(self) -> int:
        """How many images can be read; each file is tried once."""
        if self._readable is None:
            self._readable = sum(1 for _ in self.images())
        return self._readable

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Readable images in order of name, (H, W, 3) uint8, a few held at a time."""
        with ThreadPoolExecutor(2) as pool:
            ahead = deque(pool.submit(self.read, file) for file in self.files[:_AHEAD])
            for following in [*self.files[_AHEAD:], *[None] * len(ahead)]:
                image = ahead.popleft().result()
                if following is not None:
                    ahead.append(pool.submit(self.read, following))
                if image is not None:
                    yield image

    def read(self, file: Path) -> NDArray[np.uint8] | None:
        """One image as (H, W, 3) uint8 sRGB; None, and a line in `broken`, where it is not one that is accepted."""
        try:
            return read_pixels(file)
        except (ImageProblemError, OSError) as error:
            self.broken[file.name] = " ".join(str(error).split())
            return None

    def stems(self) -> dict[str, Path]:
        """Files by name without suffix; a name that two files share tells nothing and is left out."""
        found: dict[str, list[Path]] = {}
        for file in self.files:
            found.setdefault(file.stem, []).append(file)
        return {stem: files[0] for stem, files in found.items() if len(files) == 1}


@dataclass(frozen=True)
class FolderScore:
    """One column of one metric over two folders; `value` is None where it is refused, and `reason` says why."""

    id: str
    column: MetricColumn
    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str = ""


def why_not(metric: Metric, pairs: int) -> str:
    """Why a metric says nothing about two folders, with the mend; empty where it does."""
    available, mend = metric.availability()
    if not available:
        return mend
    if isinstance(metric, DistributionMetric):
        return ""
    if not isinstance(metric, SampleMetric) or metric.needs != {"target"}:
        return "judges outputs by their samples: score them against a task with --task"
    return "" if pairs else NO_PAIRS


def _silent(what: str, done: int, total: int) -> None:
    """Say nothing."""


def score_folders(
    outputs: Folder,
    references: Folder,
    metrics: Mapping[str, Metric],
    unavailable: dict[str, str] | None = None,
    progress: Progress = _silent,
) -> Iterator[FolderScore]:
    """Values of all metrics that two folders allow, as they are ready.

    Metrics of distributions compare the folders whole. Metrics of an output and its target are means over the pairs of
    files of one name (without suffix), the output resampled to its reference's size where they differ.

    Args:
        outputs: Images to judge.
        references: Images to judge them by.
        metrics: Metrics by name.
        unavailable: Told which metrics were not computed, and why.
        progress: Told how far it is.
    """
    unavailable = {} if unavailable is None else unavailable
    pairs = _pairs(outputs, references)
    whole: dict[str, DistributionMetric] = {}
    paired: dict[str, SampleMetric] = {}
    for name, metric in metrics.items():
        if reason := why_not(metric, len(pairs)):
            unavailable[name] = reason
        elif isinstance(metric, DistributionMetric):
            whole[name] = metric
        elif isinstance(metric, SampleMetric):
            paired[name] = metric
    yield from _score_sets(outputs, references, whole, unavailable, progress)
    yield from _score_pairs(outputs, references, pairs, paired, unavailable, progress)


def _score_sets(
    outputs: Folder,
    references: Folder,
    metrics: Mapping[str, DistributionMetric],
    unavailable: dict[str, str],
    progress: Progress,
) -> Iterator[FolderScore]:
    """Each file is read once for all metrics, and put through the network once per resize."""
    fewest = min(len(outputs.files), len(references.files))
    readers: dict[Resize, FeatureReader] = {}
    try:
        for metric in metrics.values():
            if (
                fewest >= metric.minimum and metric.resize not in readers
            ):  # else refused before anything is made of them
                readers[metric.resize] = metric.reader()
        keys = _read(outputs, references, list(readers.values()), progress) if readers else ([], [])
    except WeightsError as error:  # all of them use the same
        unavailable.update(dict.fromkeys(metrics, str(error)))
        return
    for name, metric in metrics.items():
        if metric.resize in readers and fewest >= metric.minimum:
            progress(f"{name} and its interval", 0, 0)
            values = metric.compare_read(readers[metric.resize], *keys)
        else:
            values = metric.refusal(outputs.readable(), references.readable())
        for column, value in zip(metric.columns, values, strict=True):
            yield FolderScore(value.id or column.id, column, value.value, value.low, value.high, value.n, value.reason)


def _read(
    outputs: Folder, references: Folder, readers: Sequence[FeatureReader], progress: Progress
) -> tuple[list[bytes], list[bytes]]:
    """The keys of the images of both folders, taken by every reader."""
    total = len(outputs.files) + len(references.files)
    found: list[list[bytes]] = []
    done = 0
    for folder in (outputs, references):
        keys = []
        for image in folder.images():
            keys += [reader.add(image) for reader in readers][:1]
            done += 1
            progress("features of images", done, total)
        found.append(keys)
    for reader in readers if found[0] else ():
        reader.features(found[0][:1])
    return found[0], found[1]


def _pairs(outputs: Folder, references: Folder) -> list[tuple[Path, Path]]:
    ours, theirs = outputs.stems(), references.stems()
    return [(ours[stem], theirs[stem]) for stem in ours if stem in theirs]


def _score_pairs(
    outputs: Folder,
    references: Folder,
    pairs: Sequence[tuple[Path, Path]],
    metrics: Mapping[str, SampleMetric],
    unavailable: dict[str, str],
    progress: Progress,
) -> Iterator[FolderScore]:
    """Means over pairs; each file is read once, whatever the number of metrics, and few are held."""
    rows: dict[str, list[tuple[Value, ...]]] = {name: [] for name in metrics}
    resampled = done = 0
    for chunk in _chunks(outputs, references, pairs) if metrics else ():
        resampled += sum(item.image.shape != item.returned.shape for item in chunk)
        for name in [name for name in metrics if name not in unavailable]:
            metric = metrics[name]
            try:
                rows[name] += compute_each(metric, len(metric.columns), chunk)
            except WeightsError as error:
                unavailable[name] = str(error)
        done += len(chunk)
        chunk.clear()  # before the next is read
        progress("pairs", done, len(pairs))
    note = f"{resampled} resampled to the size of their reference" if resampled else ""
    for name, metric in metrics.items():
        if name in unavailable:
            continue
        for index, column in enumerate(metric.columns):
            yield _mean(column, [row[index] for row in rows[name]], note)


def _mean(column: MetricColumn, values: Sequence[Value], note: str) -> FolderScore:
    numbers = [value.value for value in values if value.value is not None and np.isfinite(value.value)]
    without = len(values) - len(numbers)
    why = next((value.reason for value in values if value.value is None), "not finite")
    reason = "; ".join(filter(None, [f"{without} without a value: {why}" if without else "", note]))
    if not numbers:
        return FolderScore(column.id, column, None, None, None, 0, reason or "no pair can be read")
    estimate = mean_interval(numbers, list(range(len(numbers))))
    bounds = [float(bound) if np.isfinite(bound) else None for bound in (estimate.low, estimate.high)]
    return FolderScore(column.id, column, float(estimate.value), bounds[0], bounds[1], len(numbers), reason)


def _chunks(outputs: Folder, references: Folder, pairs: Sequence[tuple[Path, Path]]) -> Iterator[list[Scored]]:
    """Readable pairs as items, each chunk of a bounded number of pixels."""
    chunk: list[Scored] = []
    pixels = 0
    for index, (output, reference) in enumerate(pairs):
        image, target = outputs.read(output), references.read(reference)
        if image is None or target is None:
            continue
        if chunk and pixels + target.size // 3 > PIXELS_AT_ONCE:
            yield chunk
            chunk, pixels = [], 0
        chunk.append(_item(output.stem, index, image, target))
        pixels += target.size // 3
    if chunk:
        yield chunk


def _item(stem: str, index: int, image: NDArray[np.uint8], target: NDArray[np.uint8]) -> Scored:
    height, width = target.shape[:2]
    sample = Sample(
        id=stem, suite="folder", suite_version="1", task="folder", operation="folder", split="folder", index=index,
        cluster=stem, instruction="", width=width, height=height, target=target,
    )  # fmt: skip
    return Scored(sample, resample(image, width, height), 0, _NoTask(), image)


class _NoTask(Task):
    """Stands where a scored item has its task: two folders have none."""

    name = suite = "folder"
    version = "1"

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """Never asked."""
        raise LookupError("two folders have no task")

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Never asked: metrics that need a task are refused."""
        raise LookupError("two folders have no task")
