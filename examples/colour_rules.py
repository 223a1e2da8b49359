"""A model adapter in one file: an editor without learning, which finds objects by the colour word in the instruction.

    qkbench run --task edit --model examples/colour_rules.py:ColourRules --model no-op --out runs/rules

It sees what every model sees, source and instruction. It recolours and removes; everything else it leaves undone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import binary_dilation
from skimage.restoration import inpaint_biharmonic

from qk_bench.interfaces import Model
from qk_bench.records import ModelCard, Request

PAINTS = {
    "red": (214, 34, 42), "orange": (245, 130, 32), "yellow": (250, 220, 50), "green": (34, 150, 60),
    "cyan": (50, 205, 215), "blue": (30, 85, 215), "purple": (140, 45, 150), "pink": (245, 125, 190),
}  # fmt: skip
WORD = re.compile("|".join(PAINTS))
REMOVALS = re.compile(r"remove|delete|erase|away|rid of|disappear|out of|clear")


class ColourRules(Model):
    """Segments by colour, then repaints or inpaints what it found.

    Args:
        reach: How far a pixel may be from the named colour, in sRGB units of 0 to 255, to belong to the object.
    """

    def __init__(self, reach: float = 60.0) -> None:
        self.reach = float(reach)
        self.card = ModelCard(name="colour-rules", version="1", arguments={"reach": self.reach}, deterministic=True)

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8]]:
        """Edit each request by itself."""
        return [self._edit(request) for request in requests]

    def _edit(self, request: Request) -> NDArray[np.uint8]:
        assert request.source is not None
        words = WORD.findall(request.instruction)
        image = request.source.astype(np.float32)
        if not words:
            return request.source
        near = np.linalg.norm(image - PAINTS[words[0]], axis=2)
        found = near < self.reach
        if REMOVALS.search(request.instruction):
            hole = binary_dilation(found, np.ones((5, 5)))
            filled = inpaint_biharmonic(request.source, hole, channel_axis=-1)
            return (255 * np.clip(filled, 0, 1) + 0.5).astype(np.uint8)
        if len(words) == 2 and not re.search(
            r"swap|exchange|trade|switch|interchange|vice versa|add|put", request.instruction
        ):
            share = np.clip(1 - near / (2 * self.reach), 0, 1) * binary_dilation(found, np.ones((3, 3)))
            share = np.where(found, 1, share)[..., None]  # soft at the edges
            image += share * (np.array(PAINTS[words[1]]) - np.array(PAINTS[words[0]]))
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)
