"""Inception-v3 of 2015-12-05, the network FID and KID are defined on, up to its 2048 pooled features.

It is not torchvision's: average pools leave padding out of the mean, and the last block pools by maximum (Heusel et
al., arXiv 1706.08500, TensorFlow graph `inception-2015-12-05`). Layers carry TensorFlow's names. Batch normalisation is
folded into the convolutions and memory is channels last: less than half the time of the layer-by-layer network, in
float32 throughout (bfloat16 would move FID by more than the effects it measures).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_bench import weights
from qk_bench.metrics.resize import RESIZES, Resize

SIDE = 299
BATCH = 8
_EPSILON = 1e-3  # of the batch normalisation
_UNPADDED = frozenset(("conv", "conv_1", "conv_4"))


class Inception:
    """uint8 images → features.

    Args:
        resize: How images are brought to 299 × 299.
    """

    name = "inception-tf"
    dimensions = 2048

    def __init__(self, resize: Resize) -> None:
        self.id = f"{self.name},{resize}-resize"
        self._resize = RESIZES[resize]

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features of images.

        Args:
            images: B images (H, W, 3) uint8 of any sizes.

        Returns:
            (B, 2048) float32.
        """
        import torch

        pixels = np.stack([self._resize(image, SIDE) for image in images])  # (B, 3, 299, 299) in [0, 255]
        with torch.inference_mode():
            x = (torch.from_numpy(pixels) - 128) / 128
            features: NDArray[np.float32] = _network()(x).numpy()
        return features


class _Network:
    def __init__(self) -> None:
        import torch
        from safetensors.torch import load

        self._f = torch.nn.functional
        self._torch = torch
        tensors = load(weights.load("inception-tf"))
        self._convolutions = {}
        for name in {key.rsplit(".", 1)[0] for key in tensors}:
            weight, beta, mean, var = (tensors[f"{name}.{k}"].double() for k in ("weight", "beta", "mean", "var"))
            scale = (var + _EPSILON).rsqrt()
            folded = (weight * scale[:, None, None, None]).float().contiguous(memory_format=torch.channels_last)
            self._convolutions[name] = folded, (beta - mean * scale).float()

    def __call__(self, x: Any) -> Any:
        """(B, 3, 299, 299) in [-1, 1) → (B, 2048)."""
        x = x.contiguous(memory_format=self._torch.channels_last)
        x = self._conv(x, "conv", stride=2)  # (B, 32, 149, 149)
        x = self._tower(x, "conv_1", "conv_2")  # (B, 64, 147, 147)
        x = self._f.max_pool2d(x, 3, 2)
        x = self._tower(x, "conv_3", "conv_4")  # (B, 192, 71, 71)
        x = self._f.max_pool2d(x, 3, 2)
        for block in ("mixed", "mixed_1", "mixed_2"):  # (B, 256 | 288 | 288, 35, 35)
            x = self._four_towers(x, block, 2, 3)
        x = self._cat(  # (B, 768, 17, 17)
            self._conv(x, "mixed_3.conv", stride=2),
            self._conv(self._tower(x, *_names("mixed_3.tower", 2)), "mixed_3.tower.conv_2", stride=2),
            self._f.max_pool2d(x, 3, 2),
        )
        for block in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):  # (B, 768, 17, 17)
            x = self._four_towers(x, block, 3, 5)
        x = self._cat(  # (B, 1280, 8, 8)
            self._conv(self._tower(x, *_names("mixed_8.tower", 1)), "mixed_8.tower.conv_1", stride=2),
            self._conv(self._tower(x, *_names("mixed_8.tower_1", 3)), "mixed_8.tower_1.conv_3", stride=2),
            self._f.max_pool2d(x, 3, 2),
        )
        x = self._forked_towers(x, "mixed_9", self._average(x))  # (B, 2048, 8, 8)
        x = self._forked_towers(x, "mixed_10", self._f.max_pool2d(x, 3, 1, 1))  # (B, 2048, 8, 8)
        return x.mean(dim=(2, 3))

    def _conv(self, x: Any, name: str, stride: int = 1) -> Any:
        weight, bias = self._convolutions[name]
        padded = stride == 1 and name not in _UNPADDED
        padding = tuple(k // 2 if padded else 0 for k in weight.shape[2:])
        return self._torch.relu_(self._f.conv2d(x, weight, bias, stride, padding))

    def _tower(self, x: Any, *names: str) -> Any:
        for name in names:
            x = self._conv(x, name)
        return x

    def _average(self, x: Any) -> Any:
        return self._f.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def _cat(self, *branches: Any) -> Any:
        return self._torch.cat(branches, dim=1)

    def _four_towers(self, x: Any, block: str, middle: int, last: int) -> Any:
        return self._cat(
            self._conv(x, f"{block}.conv"),
            self._tower(x, *_names(f"{block}.tower", middle)),
            self._tower(x, *_names(f"{block}.tower_1", last)),
            self._conv(self._average(x), f"{block}.tower_2.conv"),
        )

    def _forked_towers(self, x: Any, block: str, pooled: Any) -> Any:
        fork = self._conv(x, f"{block}.tower_conv")
        second = self._tower(x, f"{block}.tower_1_conv", f"{block}.tower_1_conv_1")
        return self._cat(
            self._conv(x, f"{block}.conv"),
            self._conv(fork, f"{block}.tower_mixed_conv"),
            self._conv(fork, f"{block}.tower_mixed_conv_1"),
            self._conv(second, f"{block}.tower_1_mixed_conv"),
            self._conv(second, f"{block}.tower_1_mixed_conv_1"),
            self._conv(pooled, f"{block}.tower_2_conv"),
        )


def _names(tower: str, count: int) -> list[str]:
    return [f"{tower}.conv" + (f"_{i}" if i else "") for i in range(count)]


@lru_cache(maxsize=1)
def _network() -> _Network:
    return _Network()
