"""An inserted object may have another outline, but it may not be cut off."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from qk_tasks.pairs.builder import Options, build
from qk_tasks.pairs.suite import DatasetSuite, PairTask
from qk_tasks.pairs.vision import box_of

from qk_bench.records import Mask, Sample

from . import coco_folder

HALVES = ("left", "right", "upper", "lower")
OUTLINES = ("ellipse", "diamond", "cross")


@pytest.fixture(scope="module")
def insertions(tmp_path_factory: pytest.TempPathFactory) -> tuple[PairTask, list[Sample]]:
    folder = tmp_path_factory.mktemp("pairs")
    coco = coco_folder.make(folder / "coco", 26)
    build(coco, folder / "pairs", Options("coco-edits", resolution=256, shares=(1, 0, 0)), note=lambda _: None)
    task = DatasetSuite(str(folder / "pairs")).tasks["inserting"]
    assert isinstance(task, PairTask)
    return task, [task.sample("train", index, 256) for index in range(min(12, task.size("train") or 0))]


def half(mask: Mask, side: str) -> Mask:
    """One half of a mask, cut in the middle of its box."""
    x0, y0, x1, y1 = box_of(mask)
    kept = np.zeros_like(mask)
    x, y = (x0 + x1) // 2, (y0 + y1) // 2
    cut = {"left": np.s_[:, :x], "right": np.s_[:, x:], "upper": np.s_[:y], "lower": np.s_[y:]}[side]
    kept[cut] = mask[cut]
    return kept


def outline(mask: Mask, name: str) -> Mask:
    """Another shape in the box of a mask."""
    x0, y0, x1, y1 = box_of(mask)
    ys, xs = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    x, y = np.abs(2 * (xs - x0) / (x1 - x0) - 1), np.abs(2 * (ys - y0) / (y1 - y0) - 1)
    shapes = {"ellipse": x * x + y * y <= 1, "diamond": x + y <= 1, "cross": np.minimum(x, y) <= 0.35}
    return shapes[name] & (np.maximum(x, y) <= 1)


def painted(sample: Sample, mask: Mask, above: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.where(mask[..., None], above, sample.source).astype(np.uint8)


@pytest.mark.parametrize("side", HALVES)
def test_half_an_object_is_not_inserted(insertions: tuple[PairTask, list[Sample]], side: str) -> None:
    task, samples = insertions
    assert len(samples) >= 8
    said = []
    for sample in samples:
        assert sample.edit_mask is not None and sample.target is not None
        said.append(task.verify(sample, painted(sample, half(sample.edit_mask, side), sample.target)).reason)
    assert all(said) and any(reason.startswith("inserted in part: it reaches over 5") for reason in said)


@pytest.mark.parametrize("name", OUTLINES)
def test_an_object_of_another_outline_is_inserted(insertions: tuple[PairTask, list[Sample]], name: str) -> None:
    task, samples = insertions
    for sample in samples:
        assert sample.edit_mask is not None and sample.target is not None
        colour = np.median(sample.target[sample.edit_mask], axis=0)
        verdict = task.verify(sample, painted(sample, outline(sample.edit_mask, name), colour))
        assert verdict.success, verdict.reason
