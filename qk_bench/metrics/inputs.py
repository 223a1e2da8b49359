"""What metrics read from an item; a sample without it is a caller's mistake, since metrics declare what they need."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Scored

T = TypeVar("T")


def target(item: Scored) -> NDArray[np.uint8]:
    """The (H, W, 3) uint8 target of an item's sample."""
    return _there(item, item.sample.target, "target")


def source(item: Scored) -> NDArray[np.uint8]:
    """The (H, W, 3) uint8 source of an item's sample."""
    return _there(item, item.sample.source, "source")


def edit_mask(item: Scored) -> NDArray[np.bool_]:
    """The (H, W) mask of an item's sample, true where source and target may differ."""
    return _there(item, item.sample.edit_mask, "edit mask")


def _there(item: Scored, value: T | None, what: str) -> T:
    if value is None:
        raise ValueError(f"sample {item.sample.id} has no {what}")
    return value
