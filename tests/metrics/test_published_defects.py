"""Defects published benchmarks have, which ours must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from qk_bench.metrics.color_difference import ColorDifference
from qk_bench.metrics.drift import drift
from qk_bench.metrics.fid import Fid, FidTf
from qk_bench.metrics.folders import Folder
from qk_bench.metrics.inception import Inception
from qk_bench.metrics.kid import Kid, mmd2, seeded_subsets
from qk_bench.metrics.psnr import psnr
from tests.metrics import peers
from tests.metrics.items import scored
from tests.metrics.photographs import crops, disturbed, write_folder


def test_a_mask_of_0_and_1_is_refused_rather_than_ignored() -> None:
    """Defect 1: GIE-Bench's masks hold 0 and 1, its scorer tests `mask < 128`."""
    image = crops(1, 64, seed=0)[0]
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 1
    with pytest.raises(ValidationError, match="bool mask"):
        scored(image, source=image, edit_mask=mask)
    with pytest.raises(TypeError, match="bool"):
        drift(image, image, mask)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bool"):
        psnr(image, image, mask)  # type: ignore[arg-type]


def test_masked_psnr_is_that_of_the_kept_pixels() -> None:
    """Defect 2: PIE-Bench divides by all pixels, 3 dB too much where half are kept."""
    first = crops(1, 64, seed=0)[0]
    second = disturbed(first, seed=0)
    mask = np.zeros((64, 64), np.bool_)
    mask[:32] = True
    assert psnr(first, second, mask) == pytest.approx(psnr(first[:32], second[:32]), abs=1e-9)


def test_a_broken_image_is_named_and_a_black_one_counts(tmp_path: Path) -> None:
    """Defect 3: scorers that skip missing images silently, score failures as 0, or drop blacked-out images."""
    images = [*crops(3, 64, seed=0), np.zeros((64, 64, 3), np.uint8)]
    folder = write_folder(tmp_path, images)
    (folder / "broken.png").write_bytes((folder / "00000.png").read_bytes()[:300])
    read = Folder(folder)
    found = list(read.images())
    assert len(found) == 4
    assert not found[3].any()
    assert list(read.broken) == ["broken.png"]
    assert [v.value for v in ColorDifference().compute([scored(images[3], target=images[3])])[0]] == [0, 0]


def test_kid_is_seeded_and_its_interval_is_not_the_spread_over_subsets() -> None:
    """Defect 4: clean-fid's KID is unseeded, and the usual "std" is the spread over subsets."""
    rng = np.random.default_rng(0)
    first, second = (rng.normal(shift, 1, (1500, 32)).astype(np.float32) for shift in (0, 0.2))
    subsets = seeded_subsets(1500, 1500)
    again = seeded_subsets(1500, 1500)
    assert all(np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) for a, b in zip(subsets, again, strict=True))
    assert mmd2(first, second, subsets).mean() == mmd2(first, second, again).mean()
    assert "seed=0" in Kid().columns[0].id


def test_the_resize_is_in_the_id_and_moves_the_features(pinned_weights: None, tmp_path: Path) -> None:
    """Defect 5: torchmetrics antialiases by default and no longer matches the TensorFlow-compatible FID."""
    import torch
    from torchmetrics.image.fid import NoTrainInceptionV3

    assert "tf-resize" in FidTf().columns[0].id
    assert "clean-resize" in Fid().columns[0].id
    image = crops(1, 398, seed=0)[0]
    net = NoTrainInceptionV3("inception", ["2048"], peers.inception_file(tmp_path))
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    net.use_antialias = False
    legacy = net(batch).numpy()
    net.use_antialias = True
    antialiased = net(batch).numpy()
    ours = {resize: Inception(resize)([image]) for resize in ("tf", "clean")}
    assert np.abs(ours["tf"] - legacy).max() < 1e-3
    assert np.abs(ours["tf"] - antialiased).max() > 1e-2
    assert np.abs(ours["tf"] - ours["clean"]).max() > 1e-2
