"""The four-colour difference picture: where an output did what was asked, and where it did not.

For each pixel three colour differences (CIE76) are compared with `TOLERANCE`: between source and target (should it
change?), source and output (did it?), output and target (is it right?).

    changed right  should change, and is right
    changed wrong  should change, did, and is not right
    missed         should change, did not
    spilled        should not change, did, and is not right
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qk_bench.metrics.color import cie76, lab, unequal

TOLERANCE: Final = 5.0
"""ΔE (CIE76) above which two colours count as different: about twice what is just noticeable side by side."""

RIGHT, WRONG, MISSED, SPILLED = 1, 2, 3, 4
COLOURS: Final = {RIGHT: (0, 158, 115), WRONG: (213, 94, 0), MISSED: (86, 180, 233), SPILLED: (204, 121, 167)}
"""From the palette of Okabe and Ito, which colour-blind readers can tell apart."""

LABELS: Final = {RIGHT: "changed right", WRONG: "changed wrong", MISSED: "missed", SPILLED: "spilled"}
_PALETTE: Final = [0, 0, 0] + [v for k in sorted(COLOURS) for v in COLOURS[k]]


def classify(source: NDArray[np.uint8], target: NDArray[np.uint8], output: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class of each pixel.

    Args:
        source: (H, W, 3) sRGB.
        target: (H, W, 3) sRGB.
        output: (H, W, 3) sRGB.

    Returns:
        (H, W) uint8: 0, or one of `RIGHT`, `WRONG`, `MISSED`, `SPILLED`.
    """
    should = _differ(source, target)
    did = _differ(source, output)
    wrong = _differ(output, target)
    classes = np.zeros(should.shape, np.uint8)
    classes[should & ~wrong] = RIGHT
    classes[should & wrong & did] = WRONG
    classes[should & wrong & ~did] = MISSED
    classes[~should & wrong & did] = SPILLED
    return classes


def _differ(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.bool_]:
    differ = unequal(first, second)
    if differ.any():
        differ[differ] = cie76(lab(first[differ]), lab(second[differ])) > TOLERANCE
    return differ


def encode(classes: NDArray[np.uint8]) -> bytes:
    """The classes as a palette PNG; unchanged pixels are transparent."""
    image = Image.fromarray(classes)
    image.putpalette(_PALETTE)  # an 8-bit grey image becomes one of palette indices
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=4, transparency=0, compress_level=9)
    return buffer.getvalue()
