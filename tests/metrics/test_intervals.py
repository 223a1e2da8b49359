"""Intervals of set metrics: they cover, and they contain their own estimate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qk_bench.metrics import kid
from qk_bench.metrics.distribution import Sets
from qk_bench.metrics.features import FeatureStore
from qk_bench.metrics.frechet import frechet, frechet_distance, moments
from qk_bench.metrics.intervals import (
    Unit,
    clustered_units,
    count_interval,
    half_samples,
    interval,
    share_interval,
    single_units,
)
from qk_bench.metrics.kid import mmd2
from qk_bench.metrics.precision_recall import PrecisionRecall, density_error, precision_recall

Array = NDArray[np.float32]
REPETITIONS = 120


def _fid(x: Array, y: Array) -> float:
    return frechet(moments(x), moments(y))


def _kid(x: Array, y: Array) -> float:
    return float(mmd2(x, y, [(np.arange(len(x)), np.arange(len(y)))])[0])


def unrelated(rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array]:
    """Features of two sets that have nothing to do with each other."""
    scale = np.arange(1, d + 1) ** -0.5
    return tuple((rng.normal(m, s, (n, d)) * scale).astype(np.float32) for m, s in ((0, 1), (0.3, 1.3)))  # type: ignore[return-value]


def of_one_distribution(rng: np.random.Generator) -> tuple[Array, Array]:
    """Features of two sets of one kind: nearly every image is within reach of one of the other set."""
    return rng.normal(size=(150, 4)).astype(np.float32), rng.normal(size=(150, 4)).astype(np.float32)


def far_apart(rng: np.random.Generator) -> tuple[Array, Array]:
    """Features of two sets that hardly overlap."""
    first, second = of_one_distribution(rng)
    return first + np.float32(2.2), second


def _clustered(rng: np.random.Generator) -> tuple[Array, Array]:
    centres = np.repeat(rng.normal(size=(40, 12)), 4, axis=0)
    targets = centres + 0.5 * rng.normal(size=centres.shape)
    return (targets + 0.4 * rng.normal(size=targets.shape) + 0.3).astype(np.float32), targets.astype(np.float32)


_NAMES = [str(i // 4) for i in range(160)]
CASES: dict[
    str, tuple[Callable[[np.random.Generator], tuple[Array, Array]], Callable[[Array, Array], float], list[list[Unit]]]
] = {
    "fid": (lambda rng: unrelated(rng, 150, 12), _fid, single_units(150, 150)),
    "fid with fewer images than features": (lambda rng: unrelated(rng, 80, 128), _fid, single_units(80, 80)),
    "mmd of whole sets": (lambda rng: unrelated(rng, 150, 12), _kid, single_units(150, 150)),
    "fid of clustered pairs": (_clustered, _fid, [clustered_units(_NAMES, _NAMES)]),
}


@pytest.mark.parametrize("case", CASES)
def test_interval_covers_the_value_that_sets_of_this_size_have_on_average(case: str) -> None:
    draw, statistic, strata = CASES[case]
    values, bounds = [], []
    for repetition in range(REPETITIONS):
        x, y = draw(np.random.default_rng(repetition))
        halves = half_samples(strata, resamples=40, seed=repetition)
        assert halves is not None
        values.append(statistic(x, y))
        error = halves.errors([statistic(x[a], y[b]) for a, b in halves.draws])
        bounds.append(interval(values[-1], float(error), halves.degrees))
    truth = np.mean(values)
    coverage = np.mean([low <= truth <= high for low, high in bounds])
    assert coverage >= 0.89  # 95 % less three standard errors of 120 repetitions
    assert np.mean([high - low for low, high in bounds]) < 1.5 * 2 * 1.96 * np.std(values)


def test_interval_of_kid_over_seeded_subsets_covers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KID as it is reported: the mean over subsets smaller than the sets, with the interval `Kid` gives it."""
    monkeypatch.setattr(kid, "SUBSET_SIZE", 50)
    store = FeatureStore(tmp_path / "features.sqlite")
    values, bounds = [], []
    for repetition in range(REPETITIONS):
        x, y = unrelated(np.random.default_rng(repetition), 150, 12)
        halves = half_samples(single_units(150, 150), resamples=40, seed=repetition)
        assert halves is not None
        (value,), (error,) = kid.Kid().estimate(Sets(x, y, [], [], halves, store))
        values.append(value)
        bounds.append(interval(value, error, halves.degrees))
    truth = np.mean(values)
    assert all(low < value < high for value, (low, high) in zip(values, bounds, strict=True))
    assert np.mean([low <= truth <= high for low, high in bounds]) >= 0.89
    assert np.mean([high - low for low, high in bounds]) < 1.5 * 2 * 1.96 * np.std(values)


DENSITIES: dict[str, tuple[Callable[[np.random.Generator], tuple[Array, Array]], list[list[Unit]]]] = {
    "more features than half the images": (lambda rng: unrelated(rng, 200, 128), single_units(200, 200)),
    "few features": (CASES["fid"][0], CASES["fid"][2]),
    "clustered pairs": (CASES["fid of clustered pairs"][0], CASES["fid of clustered pairs"][2]),
}


@pytest.mark.parametrize("case", DENSITIES)
def test_interval_of_density_covers(case: str) -> None:
    """Half samples are too narrow in the first case."""
    draw, strata = DENSITIES[case]
    sets = [draw(np.random.default_rng(repetition)) for repetition in range(REPETITIONS)]
    values = [precision_recall(x, y)[2] for x, y in sets]
    errors = [density_error(x, y, strata) for x, y in sets]
    n, degrees = len(sets[0][0]), min(map(len, strata)) - 1
    bounds = [count_interval(v, e, n, degrees) for v, e in zip(values, errors, strict=True)]
    assert np.mean([low <= np.mean(values) <= high for low, high in bounds]) >= 0.89
    assert np.mean([high - low for low, high in bounds]) < 1.5 * 2 * 1.96 * np.std(values)


SHARES: dict[str, tuple[Callable[[np.random.Generator], tuple[Array, Array]], list[list[Unit]]]] = {
    "nearly 1, in clusters": (_clustered, CASES["fid of clustered pairs"][2]),
    "near 1": (of_one_distribution, single_units(150, 150)),
}


@pytest.mark.parametrize("case", SHARES)
def test_intervals_of_shares_cover_where_subsets_hardly_differ(case: str, tmp_path: Path) -> None:
    """Student's t around half samples covers 83 % of precisions and 13 % of coverages in the first case."""
    draw, strata = SHARES[case]
    store = FeatureStore(tmp_path / "features.sqlite")
    metric, values, bounds = PrecisionRecall(), [], []
    for repetition in range(REPETITIONS // 2):
        halves = half_samples(strata, resamples=40, seed=repetition)
        assert halves is not None
        sets = Sets(*draw(np.random.default_rng(repetition)), [], [], halves, store)
        found, errors = metric.estimate(sets)
        values.append(found)
        bounds.append(metric.intervals(found, errors.tolist(), sets))
    low, high = np.moveaxis(np.array(bounds), -1, 0)  # (repetitions, 4)
    truth = np.mean(values, axis=0)
    assert ((low <= truth) & (truth <= high)).mean(axis=0).min() >= 0.86  # 95 % less three standard errors
    assert (high - low)[:, [0, 1, 3]].max() < 0.25


@pytest.mark.parametrize("error", [0.0, 1e-9, 0.002, 0.03, 0.4])
@pytest.mark.parametrize("units", [10, 40, 160])
def test_interval_of_a_share_of_finitely_many_holds_it_and_has_width(units: int, error: float) -> None:
    for found in range(161):
        low, high = share_interval(found / 160, error, 160, units - 1)
        assert 0 <= low <= found / 160 <= high <= 1
        assert high - low > 0.5 / 160
        low, high = count_interval(found / 160, error, 160, units - 1)
        assert -1e-12 <= low <= found / 160 < high
    assert share_interval(1, error, 160, units - 1)[0] <= 0.977  # Wilson's of 160 independent images
    middle = share_interval(0.5, 0.04, 160, units - 1)
    assert middle == pytest.approx(interval(0.5, 0.04, units - 1), abs=0.025)


@pytest.mark.parametrize("case", ["unrelated", "clustered"])
def test_error_of_density_is_that_of_leaving_out_each_unit(case: str) -> None:
    rng = np.random.default_rng(0)
    x, y = unrelated(rng, 60, 12) if case == "unrelated" else _clustered(rng)
    strata = single_units(60, 60) if case == "unrelated" else [clustered_units(_NAMES, _NAMES)]
    variance = 0.0
    for stratum in strata:
        without = [precision_recall(np.delete(x, ours, 0), np.delete(y, theirs, 0))[2] for ours, theirs in stratum]
        variance += float((len(without) - 1) * np.var(without))
    assert density_error(x, y, strata) == pytest.approx(variance**0.5, rel=1e-9)


def test_a_plain_bootstrap_of_fid_misses_its_own_estimate() -> None:
    """The reason for half samples."""
    rng = np.random.default_rng(0)
    x, y = unrelated(rng, 80, 128)
    resampled = [_fid(x[rng.integers(0, 80, 80)], y[rng.integers(0, 80, 80)]) for _ in range(60)]
    assert np.quantile(resampled, 0.025) > _fid(x, y)


def test_few_clusters_give_no_interval() -> None:
    assert half_samples([clustered_units(["a", "b", "c"], ["a", "b", "c"])]) is None


def test_sets_of_very_different_size_give_no_interval() -> None:
    assert half_samples(single_units(100, 20_000), fewest=25) is None
    halves = half_samples(single_units(1000, 20_000), resamples=2, fewest=25)
    assert halves is not None
    assert [side.size for side in halves.draws[0]] == [50, 1000]


def test_identical_sets_are_at_distance_zero() -> None:
    x = np.abs(np.random.default_rng(0).normal(size=(60, 200))).astype(np.float32)
    assert frechet_distance(x, x.copy()) == pytest.approx(0, abs=1e-4)
    wide = np.abs(np.random.default_rng(0).normal(size=(600, 50))).astype(np.float32)
    wide[:, 3] = 1  # a feature that never varies
    assert frechet_distance(wide, wide.copy()) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("counts", [(60, 50), (60, 300), (300, 60), (300, 250)])
def test_distance_is_that_of_the_square_root_formula_however_few_images_there_are(counts: tuple[int, int]) -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    x, y = (rng.normal(i * 0.2, 1 + i, (n, 100)).astype(np.float32) for i, n in enumerate(counts))
    first, second = np.cov(x, rowvar=False, dtype=np.float64), np.cov(y, rowvar=False, dtype=np.float64)
    difference = x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)
    root = np.trace(sqrtm(first @ second + 1e-12 * np.eye(100)).real)
    expected = difference @ difference + np.trace(first) + np.trace(second) - 2 * root
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4)
