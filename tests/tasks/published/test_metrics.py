"""Published definitions of metrics, each against arithmetic written out here from its benchmark's own description."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from qk_tasks.published.metrics import MagicBrushDistances, PieBenchUnedited

from qk_bench.metrics.drift import drift
from qk_bench.metrics.paintbench import accuracies
from tests.metrics.items import scored
from tests.tasks.published.layouts import edited, picture

M = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(pixel: np.ndarray) -> np.ndarray:
    """PaintBench's CIE L*a*b* of one pixel, in double precision."""
    rgb = pixel / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(M) @ linear / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), (29 / 6) ** 2 / 3 * xyz + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_paintbench_iou_pixel_by_pixel() -> None:
    source = picture(3, 16, 20)
    target = edited(source)
    noise = np.random.default_rng(0).integers(-9, 10, target.shape)
    output = np.clip(target + noise, 0, 255).astype(np.uint8)
    found = accuracies(source, target, output)
    for threshold in range(11):
        done = kept_wrong = edit = 0
        for before, wanted, got in zip(*(image.reshape(-1, 3) for image in (source, target, output)), strict=True):
            correct = np.linalg.norm(lab(got.astype(float)) - lab(wanted.astype(float))) <= threshold
            asked = (before != wanted).any()
            edit += asked
            done += asked and correct
            kept_wrong += not asked and not correct
        assert found.iou[threshold] == pytest.approx(done / (edit + kept_wrong), abs=1e-6)


def test_magicbrush_distances_after_its_resize() -> None:
    target, output = picture(1), picture(2, 40, 40)
    resized = np.asarray(Image.fromarray(output).resize((24, 24))) / 255
    ((l1, l2),) = MagicBrushDistances().compute([scored(output, target=target)])
    assert l1.value == pytest.approx(np.abs(resized - target / 255).mean(), abs=1e-12)
    assert l2.value == pytest.approx(((resized - target / 255) ** 2).mean(), abs=1e-12)


def test_pie_bench_psnr_is_three_decibels_above_ours_where_half_is_kept() -> None:
    source = picture(1)
    output = np.clip(source.astype(int) + np.random.default_rng(1).integers(-9, 10, source.shape), 0, 255).astype(
        np.uint8
    )
    mask = np.zeros(source.shape[:2], bool)
    mask[: len(mask) // 2] = True
    ((psnr, mse, ssim),) = PieBenchUnedited().compute([scored(output, source=source, edit_mask=mask)])
    blacked = [np.where(mask[:, :, None], 0, image) / 255 for image in (source, output)]
    whole = ((blacked[0] - blacked[1]) ** 2).mean()
    assert mse.value == pytest.approx(whole, abs=1e-12) and psnr.value == pytest.approx(-10 * np.log10(whole), abs=1e-9)
    assert psnr.value is not None and psnr.value - drift(source, output, ~mask)[2] == pytest.approx(
        10 * np.log10(2), abs=1e-9
    )
    assert ssim.value is not None and 0 < ssim.value < 1


def test_pie_bench_has_no_figure_where_nothing_is_kept() -> None:
    image = picture(0)
    ((psnr, *_),) = PieBenchUnedited().compute([scored(image, source=image, edit_mask=np.ones(image.shape[:2], bool))])
    assert psnr.value is None and psnr.reason == "the mask covers the whole image"
