"""Identity: whether the person of the source is still the person of the output, by dlib's face embedding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_bench import weights
from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.inputs import source
from qk_bench.metrics.requirements import available
from qk_bench.records import MetricColumn

_WEIGHTS = ("dlib-face-resnet", "dlib-landmarks-5")
_SMALLEST_FACE = 80  # pixels a side that the detector is trained on
_ENLARGE_BELOW = 4 * _SMALLEST_FACE


class FaceEmbedder:
    """Finds the largest face of an image and embeds it."""

    def __init__(self) -> None:
        """Load detector (part of dlib), landmarks and embedder.

        Raises:
            WeightsError: Weights are missing or are not the pinned ones.
        """
        import dlib

        for name in _WEIGHTS:
            weights.load(name)  # checks the hash; dlib reads the file itself
        self._detect = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(weights.path("dlib-landmarks-5")))
        self._embed = dlib.face_recognition_model_v1(str(weights.path("dlib-face-resnet")))

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """The 128-d embedding of the largest frontal face of an (H, W, 3) uint8 image; None where there is no face."""
        image = np.ascontiguousarray(image)
        enlarge = int(max(image.shape[:2]) < _ENLARGE_BELOW)  # small images are doubled once before detection
        faces = self._detect(image, enlarge)
        if not faces:
            return None
        shape = self._landmarks(image, max(faces, key=lambda face: face.area()))
        return np.asarray(self._embed.compute_face_descriptor(image, shape))


@lru_cache(maxsize=1)
def _embedder() -> Any:
    return FaceEmbedder()


class Identity(SampleMetric):
    """Distance between the face embeddings of source and output; below 0.6 dlib calls them one person."""

    needs = frozenset(("source",))
    kinds = frozenset(("edit",))
    default = False

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """One column."""
        return (
            MetricColumn(
                id="identity[dlib-resnet]",
                direction="lower",
                low=0,
                description="distance between face embeddings of source and output",
            ),
        )

    def availability(self) -> tuple[bool, str]:
        """Needs dlib and its weights."""
        return available(("dlib",), _WEIGHTS, "faces")

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """The distance for each item; none where either image has no face."""
        return [(_distance(source(item), item.image),) for item in items]


def _distance(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Value:
    first = _embedder()(before)
    if first is None:
        return Value(None, "no face in the source")
    second = _embedder()(after)
    if second is None:
        return Value(None, "no face in the output")
    return Value(float(np.linalg.norm(first - second)))
