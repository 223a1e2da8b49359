"""Intervals of set metrics by half-sampling: subsets drawn without replacement, by cluster.

A percentile bootstrap of FID lies wholly above its own estimate: a resample with replacement holds 63 % of the images,
and FID is biased upwards, the more the fewer images there are. Here the bias is removed by centring. For a share f of
the clusters drawn without replacement, √(f / (1 - f)) (θ* - mean θ*) has the spread of θ̂ - E θ̂ (Shao and Wu, "A
general theory for jackknife variance estimation", 1989; f = 1/2 needs no scaling), so that the interval is about the
value that a set of the same size has on average. That is what the N in a metric's id stands for; the limit of many
images is lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Index = NDArray[np.intp]
Unit = tuple[Index, Index]
"""What is drawn together: positions among the outputs, positions among the references."""

RESAMPLES = 200
LARGEST = 1000  # images of a subset: keeps the cost of a resample from growing with N
FEWEST_UNITS = 10
SEED = 0


@dataclass(frozen=True)
class HalfSamples:
    """Subsets of two sets, and what their spread is multiplied by."""

    draws: list[Unit]
    scale: float
    strata: Sequence[Sequence[Unit]]

    @property
    def degrees(self) -> int:
        """Of freedom: units of the smallest stratum, less one."""
        return min(map(len, self.strata)) - 1

    def errors(self, resampled: ArrayLike) -> NDArray[np.float64]:
        """Standard errors of statistics from those of the subsets, (R,) → () or (R, S) → (S,); empty without subsets."""
        rows = np.asarray(resampled, dtype=np.float64)
        return np.asarray(self.scale * rows.std(axis=0, ddof=1)) if self.draws else np.empty(0)


def half_samples(
    strata: Sequence[Sequence[Unit]], resamples: int = RESAMPLES, seed: int = SEED, fewest: int = 0
) -> HalfSamples | None:
    """Draw subsets.

    Args:
        strata: Units of each stratum; the same share of each is drawn, since one factor corrects the spread of all.
            Sets that belong together (an output and its target, all of one cluster) are one unit; two unrelated
            folders are two strata.
        resamples: Number of subsets.
        seed: Of the drawing.
        fewest: Images of either set that a subset must hold.

    Returns:
        The subsets; None if a stratum has fewer than `FEWEST_UNITS` units or a subset too few images, as where one
        set is many times the other.
    """
    if min(len(units) for units in strata) < FEWEST_UNITS:
        return None
    largest = max(sum(unit[side].size for units in strata for unit in units) for side in (0, 1))
    share = min(0.5, LARGEST / largest)
    counts = [max(2, round(share * len(units))) for units in strata]
    taken = sum(counts) / sum(len(units) for units in strata)
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        chosen = [
            units[i] for units, n in zip(strata, counts, strict=True) for i in rng.choice(len(units), n, replace=False)
        ]
        draws.append((np.concatenate([a for a, _ in chosen]), np.concatenate([b for _, b in chosen])))
        if min(side.size for side in draws[-1]) < fewest:
            return None
    return HalfSamples(draws, float(np.sqrt(taken / (1 - taken))), strata)


def interval(value: float, error: float, degrees: int, level: float = 0.95) -> tuple[float, float]:
    """The interval around a value: Student's t with its standard error.

    Measured coverage of the nominal 95 % with half samples is 92 to 98 % where the sets differ, and more where they are
    samples of one distribution: there the statistic is degenerate and a half sample overstates its spread.

    Args:
        value: The estimate from the whole sets.
        error: Its standard error.
        degrees: Of freedom.
        level: Coverage.

    Returns:
        Low and high.
    """
    reach = _critical(degrees, level) * error
    return value - reach, value + reach


def share_interval(value: float, error: float, n: int, degrees: int, level: float = 0.95) -> tuple[float, float]:
    """The interval around a share: a score interval on the effective number of images. It always has width.

    Args:
        value: The share in the whole set, in [0, 1].
        error: Its standard error.
        n: Images that it is a share of.
        degrees: Of freedom: one less than there are units in the smallest stratum.
        level: Coverage.

    Returns:
        Low and high.
    """
    from qk_bench.stats.rates import score_interval  # not above: scipy.stats takes half a second of every start

    rare = min(value, 1 - value)
    return score_interval(
        value, _effective(rare * n, n * error**2 / (1 - rare), degrees), _critical(degrees, level), level
    )


def count_interval(value: float, error: float, n: int, degrees: int, level: float = 0.95) -> tuple[float, float]:
    """The interval around a mean count per image: the same with Poisson's variance, which has no largest value."""
    effective, critical = _effective(value * n, n * error**2, degrees), _critical(degrees, level)
    correction = critical**2 / (2 * effective)
    reach = float(np.sqrt(correction * (2 * value + correction)))
    return value + correction - reach, value + correction + reach


def _effective(seen: float, inflation: float, degrees: int) -> float:
    """The number of independent images whose mean would have a standard error.

    Where few images say anything about the error it is unsure, and where the share is 1 in the whole set and in every
    subset it says nothing. So the number is drawn, with the weight of one image, towards its smallest possible value,
    the number of units, as if the images of each were all alike (as `qk_bench.stats.rates.design_effect` does).

    Args:
        seen: Images that differ from the usual one, say are out of reach where nearly all are within.
        inflation: `seen` over the effective number of images.
        degrees: Of freedom: one less than there are units in the smallest stratum.
    """
    return (seen + 1) / (inflation + 1 / (degrees + 1))


def _critical(degrees: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + level) / 2))


def clustered_units(outputs: Sequence[str], references: Sequence[str]) -> list[Unit]:
    """Units of two sets whose images carry cluster names: all of one name, on both sides, are drawn together."""
    places: dict[str, tuple[list[int], list[int]]] = {}
    for side, names in enumerate((outputs, references)):
        for position, name in enumerate(names):
            places.setdefault(name, ([], []))[side].append(position)
    return [(np.array(a, np.intp), np.array(b, np.intp)) for a, b in places.values()]


def single_units(outputs: int, references: int) -> list[list[Unit]]:
    """Strata of two unrelated sets of single images."""
    none = np.array([], np.intp)
    first = [(np.array([i], np.intp), none) for i in range(outputs)]
    return [first, [(none, np.array([i], np.intp)) for i in range(references)]]
