"""Fréchet Inception Distance (Heusel et al., arXiv 1706.08500)."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from qk_bench.metrics.distribution import DistributionMetric, Sets
from qk_bench.metrics.features import Features, FeatureStore, set_key
from qk_bench.metrics.frechet import Moments, frechet, moments
from qk_bench.records import MetricColumn


class Fid(DistributionMetric):
    """FID with clean-fid's resize.

    FID falls as N grows, by a bias that depends on the model (arXiv 1911.07023): it is refused below 500 images, its id
    carries N, and only FIDs of one N compare.
    """

    minimum = 500
    statistics = (MetricColumn(id="fid", direction="lower", low=0, description="Fréchet Inception Distance"),)

    def estimate(self, sets: Sets) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        """FID and its standard error, from subsets in float32, whose rounding is far below their spread."""
        first = _stored_moments(sets.outputs, sets.output_keys, sets.store)
        second = _stored_moments(sets.references, sets.reference_keys, sets.store)
        return (max(0.0, frechet(first, second)),), sets.errors(_single_precision)


class FidTf(Fid):
    """FID with TensorFlow 1's resize, as torch-fidelity and the original code compute it."""

    resize = "tf"


def _single_precision(outputs: Features, references: Features) -> tuple[float]:
    return (frechet(moments(outputs, np.float32), moments(references, np.float32)),)


def _stored_moments(features: Features, keys: list[bytes], store: FeatureStore) -> Moments:
    """Mean and covariance, kept in the store where they are dear: for more images than features."""
    if len(features) <= features.shape[1]:
        return moments(features)
    key = set_key("mean and covariance", keys)
    if (stored := store.get([key]).get(key)) is not None:
        with np.load(io.BytesIO(stored)) as arrays:
            return Moments(arrays["mean"], covariance=arrays["covariance"])
    found = moments(features)
    file = io.BytesIO()
    assert found.covariance is not None
    np.savez(file, mean=found.mean, covariance=found.covariance)
    store.put([(key, file.getvalue())])
    return found
