"""What FID, KID and precision / recall share: features of outputs and references, subsets of them, and the ids.

For an editing task the references are the targets of all samples that were asked, those that the model gave no image for
included, each counted once however many seeds there are; the id says so.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Scored, SetMetric, SetValue
from qk_bench.metrics.features import FeatureReader, Features, FeatureStore, kind_of_key
from qk_bench.metrics.inception import Inception
from qk_bench.metrics.intervals import (
    FEWEST_UNITS,
    HalfSamples,
    Unit,
    clustered_units,
    half_samples,
    interval,
    single_units,
)
from qk_bench.metrics.requirements import available
from qk_bench.metrics.resize import Resize
from qk_bench.records import MetricColumn, Sample

Statistic = Callable[[Features, Features], tuple[float, ...]]


@dataclass(frozen=True)
class Sets:
    """Features of outputs (N, D) and references (M, D), the keys of their images, and subsets of both."""

    outputs: Features
    references: Features
    output_keys: list[bytes]
    reference_keys: list[bytes]
    halves: HalfSamples
    store: FeatureStore

    def errors(self, statistic: Statistic) -> NDArray[np.float64]:
        """Standard errors of a statistic's values, from the subsets."""
        return self.halves.errors([statistic(self.outputs[a], self.references[b]) for a, b in self.halves.draws])


class DistributionMetric(SetMetric):
    """A comparison of two sets of images by their Inception features."""

    needs = frozenset(("target",))
    default = False
    takes_failed = True
    resize: ClassVar[Resize] = "clean"
    settings: ClassVar[str] = ""  # of the statistic, as they stand in the id
    minimum: ClassVar[int]  # fewest images of a set
    fewest: ClassVar[int] = 25  # images of either set in the subsets of an interval
    statistics: ClassVar[tuple[MetricColumn, ...]]  # the columns, with a name for an id

    @abstractmethod
    def estimate(self, sets: Sets) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        """The statistic, one value per column, and their standard errors, (columns,); none without subsets."""

    def intervals(self, values: Sequence[float], errors: Sequence[float], sets: Sets) -> list[tuple[float, float]]:
        """The intervals around the columns' values, from their standard errors."""
        return [interval(v, e, sets.halves.degrees) for v, e in zip(values, errors, strict=True)]

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """The columns; each value's own id adds the sizes of the sets."""
        return tuple(c.model_copy(update={"id": self._id(c, "targets")}) for c in self.statistics)

    def availability(self) -> tuple[bool, str]:
        """Needs torch and Inception's weights: without them nothing is called FID."""
        return available(("torch", "safetensors"), (Inception.name,), "metrics")

    def compute(self, items: Iterator[Scored | Sample]) -> tuple[SetValue, ...]:
        """Outputs against the targets of all samples; what is of one cluster is resampled together."""
        reader = self.reader()
        outputs: list[tuple[bytes, str]] = []
        references: dict[str, tuple[bytes, str]] = {}  # by sample
        for item in items:
            sample = item.sample if isinstance(item, Scored) else item
            if isinstance(item, Scored):
                outputs.append((reader.add(item.image), sample.cluster))
            if sample.id not in references:
                assert sample.target is not None
                references[sample.id] = reader.add(sample.target), sample.cluster
        units = clustered_units([name for _, name in outputs], [name for _, name in references.values()])
        keys = [key for key, _ in outputs], [key for key, _ in references.values()]
        return self._values(reader, *keys, [units], "targets")

    def compare(
        self, outputs: Iterable[NDArray[np.uint8]], references: Iterable[NDArray[np.uint8]]
    ) -> tuple[SetValue, ...]:
        """Two sets of images that have nothing to do with each other, such as two folders."""
        reader = self.reader()
        return self.compare_read(reader, [reader.add(image) for image in outputs], [reader.add(i) for i in references])

    def compare_read(
        self, reader: FeatureReader, outputs: list[bytes], references: list[bytes]
    ) -> tuple[SetValue, ...]:
        """The same of images that a reader has taken already, by their keys: metrics of one resize share a reader."""
        return self._values(reader, outputs, references, single_units(len(outputs), len(references)), "folder")

    def refusal(self, n: int, m: int, reference: str = "folder") -> tuple[SetValue, ...]:
        """What stands in place of values for sets of n and m images, one of them below the minimum."""
        reason = f"{min(n, m)} images; {self.statistics[0].id} needs {self.minimum} on each side"
        return tuple(SetValue(None, None, None, n, reason, identifier) for identifier in self._ids(n, m, reference))

    def reader(self) -> FeatureReader:
        """What takes images for this metric."""
        extractor = Inception(self.resize)
        return FeatureReader(extractor, FeatureStore.of(extractor))

    def _values(
        self,
        reader: FeatureReader,
        output_keys: list[bytes],
        reference_keys: list[bytes],
        strata: list[list[Unit]],
        reference: str,
    ) -> tuple[SetValue, ...]:
        n, m = len(output_keys), len(reference_keys)
        if min(n, m) < self.minimum:
            return self.refusal(n, m, reference)
        store = reader.store
        assert store is not None
        ids = self._ids(n, m, reference)
        halves = half_samples(strata, fewest=self.fewest) or HalfSamples([], 0, [])
        few = "" if halves.draws else f"no interval: {self._why_none(strata)}"
        features = reader.features(output_keys), reader.features(reference_keys)
        sets = Sets(*features, output_keys, reference_keys, halves, store)
        values, errors = self._stored_estimate(sets)
        bounds: list[tuple[float | None, float | None]] = [(None, None)] * len(values)
        if halves.draws:
            found = self.intervals(values, errors.tolist(), sets)
            bounds = [_within(column, ends) for column, ends in zip(self.statistics, found, strict=True)]
        return tuple(
            SetValue(value, low, high, n, few, identifier)
            for value, (low, high), identifier in zip(values, bounds, ids, strict=True)
        )

    def _why_none(self, strata: list[list[Unit]]) -> str:
        if min(map(len, strata)) < FEWEST_UNITS:
            return f"fewer than {FEWEST_UNITS} clusters"
        return f"subsets of the same share of both sets would hold fewer than {self.fewest} images of one"

    def _stored_estimate(self, sets: Sets) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        """`estimate`, kept by the content of both sets: the subsets cost more than reading the features again."""
        kind = type(self)
        key = hashlib.sha256(kind_of_key(f"estimate {kind.__module__}.{kind.__qualname__} {self.settings}"))
        for keys in (sets.output_keys, sets.reference_keys):
            key.update(len(keys).to_bytes(8, "big") + b"".join(keys))
        for draw in sets.halves.draws:
            key.update(b"".join(side.astype("<i8").tobytes() + b"|" for side in draw))
        width = len(self.statistics)
        if (stored := sets.store.get([key.digest()]).get(key.digest())) is not None:
            numbers = np.frombuffer(stored, np.float64)
            return tuple(map(float, numbers[:width])), numbers[width:]
        values, errors = self.estimate(sets)
        sets.store.put([(key.digest(), np.concatenate([values, errors]).astype(np.float64).tobytes())])
        return values, errors

    def _ids(self, n: int, m: int, reference: str) -> list[str]:
        size = str(n) if n == m else f"{n}:{m}"
        return [self._id(column, reference, size) for column in self.statistics]

    def _id(self, column: MetricColumn, reference: str, size: str = "") -> str:
        parts = [f"{Inception.name},{self.resize}-resize", self.settings, f"ref={reference}", size and f"n={size}"]
        return f"{column.id}[{','.join(part for part in parts if part)}]"


def _within(column: MetricColumn, bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    return (
        low if column.low is None else max(low, column.low),
        high if column.high is None else min(high, column.high),
    )
