"""Values do not depend on how the work is split: batches, threads, what else is in a call."""

from __future__ import annotations

import numpy as np
import pytest

from qk_bench.metrics.drift_lpips import DriftLpips
from qk_bench.metrics.inception import Inception
from qk_bench.metrics.lpips import LpipsAlex
from tests.metrics.items import scored
from tests.metrics.photographs import crops, disturbed

pytestmark = pytest.mark.usefixtures("pinned_weights")


def test_inception_features_do_not_depend_on_batch_or_threads() -> None:
    import torch

    images = crops(5, 80, seed=0)
    extractor = Inception("clean")
    together = extractor(images)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = np.concatenate([extractor(images[:2]), extractor(images[2:3]), extractor(images[3:])])
    finally:
        torch.set_num_threads(threads)
    assert np.abs(together - alone).max() <= 1e-5


def test_lpips_does_not_depend_on_its_neighbours_or_their_sizes() -> None:
    images = [image for size in (64, 96) for image in crops(4, size, seed=size)]
    items = [scored(disturbed(image, i), i, target=image) for i, image in enumerate(images)]
    mixed = [items[i] for i in (0, 4, 1, 5, 2, 6, 3, 7)]
    together = {item.sample.id: v[0].value for item, v in zip(mixed, LpipsAlex().compute(mixed), strict=True)}
    for item in items:
        assert together[item.sample.id] == pytest.approx(LpipsAlex().compute([item])[0][0].value, abs=1e-5)


def test_perceptual_drift_ignores_the_edit_and_sees_the_rest() -> None:
    source = crops(1, 96, seed=0)[0]
    mask = np.zeros((96, 96), np.bool_)
    mask[20:60, 20:60] = True
    inside, outside = source.copy(), source.copy()
    inside[mask] = 255 - inside[mask]
    outside[70:80] = 255 - outside[70:80]
    items = [scored(image, source=source, edit_mask=mask) for image in (inside, outside)]
    (none,), (some,) = DriftLpips().compute(items)
    assert none.value == 0
    assert some.value is not None
    assert some.value > 0.01


def test_an_image_too_small_for_the_network_is_no_value() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    (value,) = LpipsAlex().compute([scored(image, target=image)])[0]
    assert value.value is None
    assert "32" in value.reason
