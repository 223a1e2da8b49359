"""Speed against the published implementations, in turns in one process, on the same input with the same weights.

Prints ratios: `python -m tests.benchmarks.test_metrics_speed [--images 1000]`. As tests, with smaller inputs:
`pytest tests/benchmarks -m slow`. Each ratio is the median of paired turns, so that other load hits both sides. Under
`taskset -c 0` the clock is CPU time, which other load does not enter.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from qk_bench import weights
from qk_bench.metrics.fid import Fid, FidTf
from qk_bench.metrics.folders import Folder
from qk_bench.metrics.frechet import frechet_distance, moments
from qk_bench.metrics.intervals import half_samples, interval, single_units
from tests.metrics import peers
from tests.metrics.photographs import crops, disturbed, write_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("pinned_weights")]
Call = Callable[[], object]


def clock() -> float:
    """Wall time; CPU time, children's included, where one core is all there is: the same but for other load on it."""
    alone = hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) == 1
    return time.process_time() + sum(os.times()[2:4]) if alone else time.perf_counter()


def seconds(call: Call) -> float:
    """Time of one call."""
    start = clock()
    call()
    return clock() - start


def paired_ratio(ours: Call, theirs: Call, turns: int = 3) -> tuple[float, float, float]:
    """Median of theirs / ours over turns after one warm-up of ours, and the median seconds of each."""
    ours()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(turns)]
    ratio = float(np.median([b / a for a, b in pairs]))
    return ratio, float(np.median([a for a, _ in pairs])), float(np.median([b for _, b in pairs]))


def features(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inception-like features, 2048-d."""
    rng = np.random.default_rng(count)
    mix = rng.normal(size=(2048, 2048)).astype(np.float32) * (np.arange(1, 2049)[:, None] ** -0.6).astype(np.float32)
    first, second = (np.maximum(0, rng.normal(size=(count, 2048)).astype(np.float32) @ mix * 0.1 + 0.3) for _ in "ab")
    return first, second * np.float32(1.05)


def frechet_against_torch_fidelity(count: int, turns: int = 3) -> tuple[float, float, float]:
    """Fréchet distance from features."""
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    first, second = features(count)

    def theirs() -> None:
        statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (first, second)]
        fid_statistics_to_metric(*statistics, False)

    return paired_ratio(lambda: frechet_distance(first, second), theirs, turns)


def frechet_against_clean_fid(count: int, turns: int = 1) -> tuple[float, float, float]:
    """Fréchet distance from features."""
    from cleanfid.fid import fid_from_feats

    first, second = features(count)
    return paired_ratio(lambda: frechet_distance(first, second), lambda: fid_from_feats(first, second), turns)


def frechet_from_statistics(count: int, turns: int = 3) -> tuple[float, float, float]:
    """Fréchet distance where both sides have their statistics ready: ours to clean-fid's."""
    from cleanfid.fid import frechet_distance as clean_fid

    from qk_bench.metrics.frechet import frechet

    sets = features(count)
    ours = [moments(x) for x in sets]
    theirs = [statistic for x in sets for statistic in (x.mean(axis=0), np.cov(x, rowvar=False))]
    return paired_ratio(lambda: frechet(*ours), lambda: clean_fid(*theirs), turns)


def folders(root: Path, count: int, size: int = 256) -> tuple[Path, Path]:
    """Two folders of PNGs."""
    first = write_folder(root / "a", crops(count, size, 0, ("astronaut", "coffee", "rocket")))
    return first, write_folder(root / "b", crops(count, size, 1, ("china", "flower", "chelsea")))


class AnyFid(Fid):
    """FID without its minimum, so that the benchmark can be run small."""

    minimum = 2


class AnyFidTf(FidTf):
    """The same with TensorFlow's resize."""

    minimum = 2


def fid_of_folders(root: Path, count: int) -> dict[str, float]:
    """Seconds of FID from PNGs to value (ours with its interval), cold, and of a second call."""
    first, second = folders(root, count)
    weights_file = peers.inception_file(root)
    model = peers.clean_fid_model(root)
    (root / "cache").mkdir()
    (root / "cache" / "weights").symlink_to(weights.path("inception-tf").parent)
    peers.clean_fid_folders(*folders(root / "warm", 2, 64), model)
    found = {}
    with patch.dict(os.environ, QK_BENCH_CACHE=str(root / "cache")):
        for name, metric in (("clean", AnyFid()), ("tf", AnyFidTf())):
            call = lambda metric=metric: metric.compare(Folder(first).images(), Folder(second).images())  # noqa: E731
            found[f"ours, {name}"] = seconds(call)
            found[f"ours, {name}, again"] = seconds(call)
            peer = {
                "clean": lambda: peers.clean_fid_folders(first, second, model),
                "tf": lambda: peers.torch_fidelity_folders(first, second, weights_file, fid=True),
            }[name]
            found[{"clean": "clean-fid", "tf": "torch-fidelity"}[name]] = seconds(peer)
    return found


def lpips_pairs(count: int, net: str = "alex", turns: int = 3) -> tuple[float, float, float]:
    """LPIPS of pairs at 256 px."""
    from qk_bench.metrics.lpips import LpipsAlex, LpipsVgg
    from tests.metrics.items import scored

    first = crops(count, 256, seed=2)
    second = [disturbed(image, seed) for seed, image in enumerate(first)]
    items = [scored(b, index, target=a) for index, (a, b) in enumerate(zip(first, second, strict=True))]
    metric = LpipsAlex() if net == "alex" else LpipsVgg()
    naive = lambda: [peers.lpips_naive(net, a, b) for a, b in zip(first, second, strict=True)]  # noqa: E731
    return paired_ratio(lambda: metric.compute(items), naive, turns)


def interval_seconds(count: int = 1000, resamples: int = 200) -> float:
    """The interval of FID."""
    from qk_bench.metrics.frechet import frechet

    first, second = features(count)

    def run() -> None:
        halves = half_samples(single_units(count, count), resamples)
        assert halves is not None
        single = [frechet(moments(first[a], np.float32), moments(second[b], np.float32)) for a, b in halves.draws]
        interval(1.0, float(halves.errors(single)), halves.degrees)

    return seconds(run)


def test_frechet_distance_of_500_is_30_times_faster_than_torch_fidelity() -> None:
    assert frechet_against_torch_fidelity(500)[0] >= 30


def test_frechet_distance_of_10000_is_twice_as_fast_as_torch_fidelity() -> None:
    assert frechet_against_torch_fidelity(10_000)[0] >= 2


def test_frechet_distance_from_statistics_is_10_times_faster_than_clean_fid() -> None:
    assert frechet_from_statistics(10_000, turns=1)[0] >= 10


def test_fid_of_folders_is_faster_and_nearly_free_the_second_time(tmp_path: Path) -> None:
    found = fid_of_folders(tmp_path, 40)
    assert min(found["clean-fid"], found["torch-fidelity"]) >= 1.3 * max(found["ours, clean"], found["ours, tf"])
    assert found["ours, clean"] >= 20 * found["ours, clean, again"]
    assert found["ours, tf"] >= 20 * found["ours, tf, again"]


def test_lpips_is_faster_than_the_package() -> None:
    assert lpips_pairs(24)[0] >= 1.5


def test_interval_of_fid_takes_less_than_30_seconds() -> None:
    assert interval_seconds() < 30


def main() -> None:
    """Print every ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000, help="PNGs of each folder")
    parser.add_argument("--pairs", type=int, default=500, help="pairs of LPIPS")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")

    def show(what: str, ratio: float, ours: float, theirs: float, target: float) -> None:
        mark = "ok" if ratio >= target else "MISSED"
        print(
            f"{what:58} {ratio:7.1f}x  (ours {ours:.3f} s, theirs {theirs:.3f} s; target {target}x) {mark}", flush=True
        )

    show("Fréchet distance, N = 500, torch-fidelity", *frechet_against_torch_fidelity(500), 30)
    show("Fréchet distance, N = 10,000, torch-fidelity", *frechet_against_torch_fidelity(10_000), 2)
    show("Fréchet distance, N = 10,000, clean-fid", *frechet_against_clean_fid(10_000), 10)
    show("the same from ready statistics, clean-fid", *frechet_from_statistics(10_000), 10)
    print(f"interval of FID, 200 resamples, N = 1,000: {interval_seconds():.1f} s (target 30 s)", flush=True)
    show(f"LPIPS AlexNet, {arguments.pairs} pairs, 256 px, lpips", *lpips_pairs(arguments.pairs), 1.5)
    show("LPIPS VGG16, 8 pairs, 256 px, lpips", *lpips_pairs(8, "vgg"), 1.5)
    with tempfile.TemporaryDirectory() as root:
        found = fid_of_folders(Path(root), arguments.images)
    size = f"{arguments.images} + {arguments.images} PNGs, 256 px"
    for name, peer in (("clean", "clean-fid"), ("tf", "torch-fidelity")):
        ours, again = found[f"ours, {name}"], found[f"ours, {name}, again"]
        show(f"FID of {size}, {peer}", found[peer] / ours, ours, found[peer], 1.3)
        show(f"FID of {size}, second call", ours / again, again, ours, 20)


if __name__ == "__main__":
    main()
