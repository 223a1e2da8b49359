"""LPIPS 0.1: learned perceptual distance on AlexNet and VGG16 features (Zhang et al., arXiv 1801.03924).

The definition is the `lpips` package's; the weights are the same numbers. Faster because both images of several pairs
go through the network in one batch, channels last, with no graph kept. What is left is the convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from qk_bench import weights
from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.metrics.inputs import target
from qk_bench.metrics.requirements import available
from qk_bench.records import MetricColumn

Net = Literal["alex", "vgg"]
SMALLEST = 32  # pixels a side: below it AlexNet's last pooling has nothing left
TOO_SMALL = f"smaller than {SMALLEST} pixels"
# of a call's outputs: more are no faster, and VGG's first features, which are as large as the image, slower, for such
# memory is given back to the system and asked for again at every layer
_BATCH_PIXELS: dict[Net, int] = {"alex": 8 * 256 * 256, "vgg": 256 * 256}
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's mean and deviation, on [-1, 1]
# a convolution's (stride, padding), "pool" its (size, stride), "tap" a layer that is compared
_LAYERS: dict[Net, tuple[Any, ...]] = {
    "alex": ((4, 2), "tap", (3, 2, "pool"), (1, 2), "tap", (3, 2, "pool"), (1, 1), "tap", (1, 1), "tap", (1, 1), "tap"),
    "vgg": tuple(step for group in (2, 2, 3, 3, 3) for step in (*[(1, 1)] * group, "tap", (2, 2, "pool")))[:-1],
}


class Lpips:
    """The network of one backbone with its linear heads."""

    def __init__(self, net: Net) -> None:
        """Load the weights.

        Raises:
            WeightsError: They are missing or are not the pinned ones.
        """
        import torch
        from safetensors.torch import load

        self._torch = torch
        self._layers = _LAYERS[net]
        tensors = load(weights.load(f"lpips-{net}"))
        count = sum(name.endswith(".bias") for name in tensors)
        self._convolutions = [
            (tensors[f"conv{i:02d}.weight"].contiguous(memory_format=torch.channels_last), tensors[f"conv{i:02d}.bias"])
            for i in range(count)
        ]
        self._heads = [tensors[f"lin{i}"].reshape(1, -1, 1, 1) for i in range(5)]
        shift, scale = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (_SHIFT, _SCALE))
        # (x / 127.5 - 1 - shift) / scale: the factor goes into the first convolution, whose padding of zeros stays right
        self._zero = (127.5 * (1 + shift)).float()
        weight, bias = self._convolutions[0]
        first = (weight.double() / (127.5 * scale)).float().contiguous(memory_format=torch.channels_last)
        self._convolutions[0] = first, bias

    def maps(self, first: Sequence[NDArray[np.uint8]], second: Sequence[NDArray[np.uint8]]) -> list[Any]:
        """The distance at each place of each of the five layers.

        Args:
            first: B images (H, W, 3) uint8, of one size, at least `SMALLEST` a side.
            second: As many, of the same size.

        Returns:
            Five float32 tensors (B, 1, h, w), each layer's own h and w; LPIPS is the sum of their means.
        """
        torch = self._torch
        n = len(first)
        with torch.inference_mode():
            images = torch.from_numpy(np.stack([*first, *second], dtype=np.float32))  # (2B, H, W, 3)
            x = images.permute(0, 3, 1, 2).sub_(self._zero)  # (2B, 3, H, W), channels last
            maps: list[Any] = []
            convolutions = iter(self._convolutions)
            compared: Any = None  # features of a tap: they are changed in place, so after the next layer has read them
            for step in self._layers:
                if step == "tap":
                    compared = x
                    continue
                if step[-1] == "pool":
                    x = torch.nn.functional.max_pool2d(x, step[0], step[1])
                else:
                    weight, bias = next(convolutions)
                    x = torch.relu_(torch.nn.functional.conv2d(x, weight, bias, step[0], step[1]))
                if compared is not None:
                    maps.append(self._map(compared, n, self._heads[len(maps)]))
                    compared = None
            maps.append(self._map(compared, n, self._heads[-1]))
        return maps

    def _map(self, features: Any, n: int, head: Any) -> Any:
        """The distance of the first n to the others, at each place. The features are overwritten."""
        unit = features.div_(self._torch.linalg.vector_norm(features, dim=1, keepdim=True).add_(1e-10))
        return self._torch.nn.functional.conv2d(unit[:n].sub_(unit[n:]).square_(), head)

    def distances(self, first: Sequence[NDArray[np.uint8]], second: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """LPIPS of B pairs of one size: (B,) float32, ≥ 0."""
        means = [layer.mean(dim=(1, 2, 3)) for layer in self.maps(first, second)]
        return np.asarray(sum(means[1:], means[0]))


@lru_cache(maxsize=2)
def network(net: Net) -> Lpips:
    """The network, loaded once per process."""
    return Lpips(net)


def batches(items: Sequence[Scored], net: Net) -> Iterator[list[int]]:
    """Positions of items that can share a call: of one size and few enough pixels. Too small ones are left out."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for position, item in enumerate(items):
        by_size.setdefault(item.image.shape, []).append(position)
    for (height, width, _), positions in by_size.items():
        if min(height, width) >= SMALLEST:
            size = max(1, _BATCH_PIXELS[net] // (height * width))
            yield from (positions[start : start + size] for start in range(0, len(positions), size))


class LpipsAlex(SampleMetric):
    """LPIPS of the output to the target, AlexNet (the `lpips` package's default)."""

    needs = frozenset(("target",))
    default = False
    net: ClassVar[Net] = "alex"

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """One column."""
        return (
            MetricColumn(id=f"lpips[{self.net},0.1]", direction="lower", low=0, description="LPIPS 0.1 to the target"),
        )

    def availability(self) -> tuple[bool, str]:
        """Needs torch and the weights."""
        return available(("torch", "safetensors"), (f"lpips-{self.net}",), "metrics")

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """LPIPS of each item."""
        values: list[tuple[Value, ...]] = [(Value(None, TOO_SMALL),)] * len(items)
        for group in batches(items, self.net):
            pairs = [items[i].image for i in group], [target(items[i]) for i in group]
            for position, distance in zip(group, network(self.net).distances(*pairs), strict=True):
                values[position] = (Value(float(distance)),)
        return values


class LpipsVgg(LpipsAlex):
    """LPIPS of the output to the target, VGG16."""

    net = "vgg"
