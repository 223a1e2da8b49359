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


class Judge:
    """Classifies outputs of one sample; what source and target have to say is computed once.

    Args:
        source: (H, W, 3) uint8 sRGB.
        target: (H, W, 3) uint8 sRGB.
    """

    def __init__(self, source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        self._source, self._target = source, target
        self._lab_source, self._lab_target = lab(source), lab(target)
        self._should = cie76(self._lab_source, self._lab_target) > TOLERANCE

    def classify(self, output: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The class of each pixel.

        Args:
            output: (H, W, 3) uint8 sRGB.

        Returns:
            (H, W) uint8: 0, or one of `RIGHT`, `WRONG`, `MISSED`, `SPILLED`.
        """
        did, wrong = unequal(output, self._source), unequal(output, self._target)
        new = (
            did & wrong
        )  # neither as in the source nor as in the target: the only pixels whose colour is not yet known
        colours = lab(output[new])
        did &= self._should | new
        wrong &= self._should | new
        did[new] = cie76(colours, self._lab_source[new]) > TOLERANCE
        wrong[new] = cie76(colours, self._lab_target[new]) > TOLERANCE
        classes = np.zeros(self._should.shape, np.uint8)
        classes[self._should & ~wrong] = RIGHT
        classes[self._should & wrong & did] = WRONG
        classes[self._should & wrong & ~did] = MISSED
        classes[~self._should & wrong & did] = SPILLED
        return classes


def encode(classes: NDArray[np.uint8]) -> bytes:
    """The classes as a palette PNG; unchanged pixels are transparent."""
    image = Image.fromarray(classes)
    image.putpalette(_PALETTE)  # an 8-bit grey image becomes one of palette indices
    buffer = io.BytesIO()
    image.save(buffer, "PNG", bits=4, transparency=0, compress_level=9)
    return buffer.getvalue()
