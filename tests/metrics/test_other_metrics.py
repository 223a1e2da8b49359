"""Identity, stability, efficiency, groups."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from qk_bench.errors import UsageError
from qk_bench.manifest import Timing
from qk_bench.metrics import GROUPS, expand
from qk_bench.metrics.efficiency import efficiency
from qk_bench.metrics.identity import Identity
from qk_bench.metrics.stability import Stability
from qk_bench.records import ModelCard
from tests.metrics.items import scored
from tests.metrics.photographs import crops, disturbed, whole


def test_identity_tells_the_same_face_from_no_face(face_weights: None) -> None:
    face = whole("astronaut")[:320, 60:380]
    smaller = np.asarray(Image.fromarray(face).resize((160, 160), Image.Resampling.BICUBIC))
    larger = np.asarray(Image.fromarray(smaller).resize((320, 320), Image.Resampling.BICUBIC))
    coffee = whole("coffee")[:320, :320]
    items = [scored(output, source=source) for output, source in ((larger, face), (coffee, face), (face, coffee))]
    (same,), (lost,), (never,) = Identity().compute(items)
    assert same.value is not None
    assert same.value < 0.6
    assert (lost.value, lost.reason) == (None, "no face in the output")
    assert (never.value, never.reason) == (None, "no face in the source")


def test_stability_is_zero_without_noise_and_grows_with_it() -> None:
    images = crops(12, 64, seed=0)

    def value(deviation: float) -> float:
        outputs = (
            scored(disturbed(image, 100 * index + seed, deviation), index, seed)
            for index, image in enumerate(images)
            for seed in range(3)
        )
        (found,) = Stability().compute(outputs)
        assert found.n == 12
        assert found.low is not None
        assert found.high is not None
        assert found.value is not None
        assert found.low <= found.value <= found.high
        return found.value

    assert value(0.0) == 0
    assert value(4.0) < value(12.0)


def test_stability_needs_two_seeds() -> None:
    (found,) = Stability().compute(iter([scored(image, index) for index, image in enumerate(crops(3, 64, seed=0))]))
    assert found.value is None
    assert "two seeds" in found.reason


def timing(model: str, number: int, seconds: float) -> Timing:
    return Timing(
        model=model, suite="s", task="t", sample_id=f"s{number}", seed=0, seconds=seconds, requests=4,
        peak_memory_bytes=100 + number,
    )  # fmt: skip


def test_efficiency_is_that_of_calls_and_of_images() -> None:
    card = ModelCard(name="m", version="1", batch_size=4, parameters=7)
    rows = [timing("m", i, 0.04 * (i // 4 + 1)) for i in range(100)]  # 25 calls of four
    found = efficiency([*rows, timing("other", 500, 99.0)], card)
    assert found is not None
    assert found.requests == 100
    assert found.latency_median == pytest.approx(0.04 * 13)
    assert found.latency_p95 == pytest.approx(0.04 * 24, rel=0.02)
    assert found.throughput == pytest.approx(100 / (0.04 * 25 * 26 / 2))
    assert (found.peak_memory, found.device_peak_memory, found.parameters) == (199, None, 7)
    assert efficiency([], card) is None


def test_all_is_every_installed_metric_and_groups_are_installed() -> None:
    from importlib.metadata import entry_points

    installed = [point.name for point in entry_points(group="qk_bench.metrics")]
    assert expand(["all"], installed) == installed
    for name, members in GROUPS.items():
        assert expand([name, *members], installed) == list(members)
    with pytest.raises(UsageError, match="no metric 'fids'; did you mean fid"):
        expand(["fids"], installed)
    with pytest.raises(UsageError, match=r"did you mean .*distribution"):
        expand(["distributions"], installed)
