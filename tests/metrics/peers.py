"""The published implementations, with our weights put in: what ours is measured against."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load

from qk_bench import weights

_STEM = {"1a_3x3": "conv", "2a_3x3": "conv_1", "2b_3x3": "conv_2", "3b_1x1": "conv_3", "4a_3x3": "conv_4"}
_BLOCKS = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]
_FORKS = {
    "branch3x3_1": "tower_conv",
    "branch3x3_2a": "tower_mixed_conv",
    "branch3x3_2b": "tower_mixed_conv_1",
    "branch3x3dbl_1": "tower_1_conv",
    "branch3x3dbl_2": "tower_1_conv_1",
    "branch3x3dbl_3a": "tower_1_mixed_conv",
    "branch3x3dbl_3b": "tower_1_mixed_conv_1",
    "branch_pool": "tower_2_conv",
}


def _tensorflow_name(module: str) -> str:
    """TensorFlow's name of a layer from torch-fidelity's."""
    if module.startswith("Conv2d_"):
        return _STEM[module.removeprefix("Conv2d_")]
    block, branch = module.split(".")
    number = _BLOCKS.index(block.removeprefix("Mixed_"))
    prefix = f"mixed_{number}" if number else "mixed"
    if branch == "branch1x1" or (branch == "branch3x3" and number == 3):
        return f"{prefix}.conv"
    if number >= 9:
        return f"{prefix}.{_FORKS[branch]}"
    if branch == "branch_pool":
        return f"{prefix}.tower_2.conv"
    kind, step = re.fullmatch(r"branch(\w+?)_(\d)", branch).groups()  # type: ignore[union-attr]
    second = kind in ("3x3dbl", "7x7dbl", "7x7x3") and number != 3
    return f"{prefix}.{'tower_1' if second else 'tower'}.conv" + (f"_{int(step) - 1}" if step != "1" else "")


def inception_state_dict() -> dict[str, torch.Tensor]:
    """Our Inception weights under torch-fidelity's names; the classifier, which no metric here uses, is zero."""
    ours = load(weights.load("inception-tf"))
    state = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    for module in _layer_names():
        name = _tensorflow_name(module)
        state[f"{module}.conv.weight"] = ours[f"{name}.weight"]
        for ours_key, theirs in (("beta", "bias"), ("mean", "running_mean"), ("var", "running_var")):
            state[f"{module}.bn.{theirs}"] = ours[f"{name}.{ours_key}"]
        state[f"{module}.bn.weight"] = torch.ones_like(ours[f"{name}.beta"])
        state[f"{module}.bn.num_batches_tracked"] = torch.tensor(0)
    return state


def _layer_names() -> list[str]:
    towers = ["branch5x5_1", "branch5x5_2", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    a = ["branch1x1", *towers, "branch_pool"]
    b = ["branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    c = ["branch1x1", *[f"branch7x7_{i}" for i in (1, 2, 3)], *[f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)]]
    d = ["branch3x3_1", "branch3x3_2", *[f"branch7x7x3_{i}" for i in (1, 2, 3, 4)]]
    e = ["branch1x1", *_FORKS]
    blocks = [a, a, a, b, *[[*c, "branch_pool"]] * 4, d, e, e]
    stem = [f"Conv2d_{name}" for name in _STEM]
    return stem + [f"Mixed_{n}.{branch}" for n, block in zip(_BLOCKS, blocks, strict=True) for branch in block]


def inception_file(folder: Path) -> str:
    """A file that torch-fidelity and torchmetrics take as `feature_extractor_weights_path`."""
    path = folder / "inception.pth"
    torch.save(inception_state_dict(), path)
    return str(path)


def torch_fidelity_extractor(folder: Path) -> Any:
    """torch-fidelity's Inception: uint8 (B, 3, H, W) → a tuple with the (B, 2048) features."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=inception_file(folder))


def torch_fidelity_folders(first: Path, second: Path, weights_file: str, **metrics: Any) -> dict[str, float]:
    """`torch_fidelity.calculate_metrics` of two folders, without its cache."""
    import torch_fidelity

    found: dict[str, float] = torch_fidelity.calculate_metrics(
        input1=str(first),
        input2=str(second),
        cuda=False,
        cache=False,
        verbose=False,
        batch_size=16,
        feature_extractor_weights_path=weights_file,
        **metrics,
    )
    return found


def clean_fid_model(folder: Path) -> Any:
    """What clean-fid takes as `custom_feat_extractor`: resized float (B, 3, 299, 299) → (B, 2048)."""
    net = torch_fidelity_extractor(folder)
    names = (*(f"Conv2d_{n}" for n in ("1a_3x3", "2a_3x3", "2b_3x3")), "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
    steps = [*names, "MaxPool_2", *(f"Mixed_{n}" for n in _BLOCKS), "AvgPool"]
    body = torch.nn.Sequential(*(getattr(net, step) for step in steps))
    return lambda batch: body((batch - 128) / 128).flatten(1)


def clean_fid_folders(first: Path, second: Path, model: Any, batch_size: int = 16, num_workers: int = 0) -> float:
    """`cleanfid.fid.compute_fid` of two folders."""
    from cleanfid import fid

    return float(
        fid.compute_fid(
            str(first),
            str(second),
            custom_feat_extractor=model,
            device=torch.device("cpu"),
            batch_size=batch_size,
            num_workers=num_workers,
            verbose=False,
        )
    )


@cache
def lpips_package(net: str) -> Any:
    """The `lpips` package's network with our backbone; its linear heads are its own."""
    import lpips

    ours = load(weights.load(f"lpips-{net}"))
    model = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    convolutions = [module for module in model.net.modules() if isinstance(module, torch.nn.Conv2d)]
    for number, convolution in enumerate(convolutions):
        convolution.weight.data.copy_(ours[f"conv{number:02d}.weight"])
        convolution.bias.data.copy_(ours[f"conv{number:02d}.bias"])
    return model


def lpips_naive(net: str, first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """LPIPS of one pair as the package's README calls it."""
    import lpips

    return float(lpips_package(net)(lpips.im2tensor(first), lpips.im2tensor(second)))
