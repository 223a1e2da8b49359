"""Metrics of pixels: what they count, and what they leave out."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from qk_bench.metrics.color import ciede2000
from qk_bench.metrics.color_difference import ColorDifference
from qk_bench.metrics.drift import Drift
from qk_bench.metrics.paintbench import PaintBench, PaintBenchThresholds, accuracies, cover
from qk_bench.metrics.psnr import CAP, Psnr
from qk_bench.metrics.ssim import Ssim
from tests.metrics.items import scored
from tests.metrics.photographs import crops, disturbed

SHARMA = [  # pairs of the paper's table 1 that exercise the hue rules
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("first", "second", "expected"), SHARMA)
def test_ciede2000_gives_the_published_values(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    assert ciede2000(np.array([first], float), np.array([second], float))[0] == pytest.approx(expected, abs=5e-5)


def _edit() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    source = crops(1, 64, seed=3)[0]
    mask = np.zeros((64, 64), np.bool_)
    mask[16:32, 16:48] = True
    target = source.copy()
    target[mask] = (255, 0, 255)
    return source, target, mask


def test_paintbench_gives_the_oracle_one_and_the_unchanged_source_zero() -> None:
    source, target, _ = _edit()
    oracle = accuracies(source, target, target)
    assert oracle.edit.min() == oracle.preservation.min() == oracle.iou.min() == 1
    nothing = accuracies(source, target, source)
    assert nothing.edit.max() == nothing.iou.max() == 0
    assert nothing.preservation.min() == 1


def test_paintbench_counts_by_hand() -> None:
    source = np.zeros((2, 4, 3), np.uint8)
    target = source.copy()
    target[0] = 255  # four pixels to edit, four to keep
    output = target.copy()
    output[0, 0] = 0  # one not edited: 3 of 4
    output[1, :2] = 255  # two spilled: 2 of 4 kept
    output[1, 3] = 2  # a level no eye sees: ΔE 0.5, accepted from threshold 1 on
    found = accuracies(source, target, output)
    assert found.edit.tolist() == [0.75] * 11
    assert found.preservation.tolist() == [0.25] + [0.5] * 10
    assert found.iou.tolist() == [3 / 7] + [3 / 6] * 10


def test_paintbench_gives_what_its_own_code_gives() -> None:
    """The values are those of PaintBench's `src/eval.py` (commit e91d8ef) on the same arrays, the output of another size."""
    rng = np.random.default_rng(0)
    source = rng.integers(60, 200, (24, 40, 3), dtype=np.uint8)
    target = source.copy()
    target[6:18, 10:30] = (200, 30, 90)
    noise = rng.integers(-12, 13, (30, 44, 3)) * (rng.random((30, 44, 1)) < 0.7)
    placed = np.asarray(Image.fromarray(target).resize((44, 30), Image.Resampling.NEAREST)).astype(np.int64)
    found = accuracies(source, target, np.clip(placed + noise, 0, 255).astype(np.uint8))
    chosen = [0, 3, 6, 10]
    assert found.edit[chosen].tolist() == [61 / 240, 83 / 240, 164 / 240, 238 / 240]
    assert found.preservation[chosen].tolist() == [35 / 720, 39 / 720, 70 / 720, 96 / 720]
    assert found.edit.mean() == pytest.approx(0.5909090909090909, abs=1e-12)
    assert found.preservation.mean() == pytest.approx(0.08623737373737374, abs=1e-12)
    assert found.iou.mean() == pytest.approx(0.15997167859404515, abs=1e-12)


def test_paintbench_covers_and_crops_an_output_of_another_size() -> None:
    image = np.arange(4 * 8 * 3, dtype=np.uint8).reshape(4, 8, 3)
    assert np.array_equal(cover(image, 4, 4), image[:, 2:6])
    assert np.array_equal(cover(image.repeat(3, 0).repeat(3, 1), 4, 4), image[:, 2:6])


def test_paintbench_columns_match_its_values() -> None:
    source, target, _ = _edit()
    item = scored(disturbed(target, 0), source=source, target=target)
    for metric in (PaintBench(), PaintBenchThresholds()):
        (values,) = metric.compute([item])
        assert len(values) == len(metric.columns)
    means = PaintBench().compute([item])[0]
    assert means[2].value == pytest.approx(np.mean([v.value for v in PaintBenchThresholds().compute([item])[0][22:]]))


def test_drift_sees_the_outside_only() -> None:
    source, target, mask = _edit()
    inside = target.copy()
    inside[mask] = 0
    outside = target.copy()
    outside[0, :] = 255 - outside[0, :]
    items = [scored(image, source=source, edit_mask=mask) for image in (inside, outside)]
    (none, share_none, best), (some, share, psnr) = Drift().compute(items)
    assert (none.value, share_none.value, best.value) == (0, 0, CAP)
    assert some.value is not None
    assert some.value > 0
    assert share.value == pytest.approx(64 / (64 * 64 - mask.sum()), rel=0.2)
    assert psnr.value is not None
    assert psnr.value < CAP


def test_drift_is_undefined_where_the_mask_covers_everything() -> None:
    source, target, mask = _edit()
    values = Drift().compute([scored(target, source=source, edit_mask=np.ones_like(mask))])[0]
    assert all(value.value is None and "covers the whole image" in value.reason for value in values)


def test_identical_images_have_the_best_values() -> None:
    image = crops(1, 64, seed=0)[0]
    item = scored(image, target=image)
    assert Psnr().compute([item])[0][0].value == CAP
    assert Ssim().compute([item])[0][0].value == pytest.approx(1)
    assert [value.value for value in ColorDifference().compute([item])[0]] == [0, 0]


def test_ssim_of_an_image_below_its_window_is_no_value() -> None:
    image = np.zeros((10, 40, 3), np.uint8)
    value = Ssim().compute([scored(image, target=image)])[0][0]
    assert value.value is None
    assert value.reason


def test_pixel_metrics_import_no_torch() -> None:
    modules = "psnr ssim color_difference paintbench drift stability efficiency frechet kid precision_recall fid"
    imports = ", ".join(f"qk_bench.metrics.{name}" for name in modules.split())
    subprocess.run([sys.executable, "-c", f"import sys, {imports}; assert 'torch' not in sys.modules"], check=True)
