"""Speed against the published implementations, in turns in one process, on the same input with the same weights.

Prints ratios: `python -m tests.benchmarks.test_metrics_speed [--images 1000] [--only folders]…`. As tests, with smaller
inputs: `pytest tests/benchmarks -m slow`. Each ratio is the median of paired turns, so that other load hits both sides.
Under `taskset -c 0` the clock is CPU time, which other load does not enter.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from qk_bench import weights
from qk_bench.metrics import inception
from qk_bench.metrics.fid import Fid, FidTf
from qk_bench.metrics.folders import Folder
from qk_bench.metrics.frechet import frechet_distance, moments
from qk_bench.metrics.intervals import half_samples, interval, single_units
from tests.metrics import peers
from tests.metrics.photographs import crops, disturbed, write_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("pinned_weights")]
Call = Callable[[], object]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def clock() -> float:
    """Wall time; CPU time, children's included, where one core is all there is: the same but for other load on it."""
    return time.process_time() + sum(os.times()[2:4]) if cores() == 1 else time.perf_counter()


def seconds(call: Call) -> float:
    """Time of one call."""
    start = clock()
    call()
    return clock() - start


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Time of one call, and the number it gives."""
    start = clock()
    value = float(call())
    return clock() - start, value


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


PEERS = {"clean": "clean-fid", "tf": "torch-fidelity"}


def fid_of_folders(root: Path, count: int, turns: int = 1) -> dict[str, float]:
    """FID from PNGs to value: median seconds of ours (with its interval), of a second call, and of the peers.

    In each turn ours starts as a process would, without cached features and with the network to load; clean-fid's
    network is loaded beforehand. clean-fid has a worker for each core to resize in, torch-fidelity its default of four.
    The values are in the answer too, as `value of …`.
    """
    first, second = folders(root, count)
    weights_file = peers.inception_file(root)
    model = peers.clean_fid_model(root)
    loaded = weights.path("inception-tf").parent
    workers = cores() if cores() > 1 else 0
    peers.clean_fid_folders(*folders(root / "warm", 2, 64), model)
    calls = {
        "clean": lambda: peers.clean_fid_folders(first, second, model, num_workers=workers),
        "tf": lambda: peers.torch_fidelity_folders(first, second, weights_file, fid=True)["frechet_inception_distance"],
    }
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(turns):
        for name, metric in (("clean", AnyFid()), ("tf", AnyFidTf())):
            cache = root / f"cache-{name}-{turn}"
            cache.mkdir()
            (cache / "weights").symlink_to(loaded)
            inception._network.cache_clear()
            ours = lambda metric=metric: metric.compare(Folder(first).images(), Folder(second).images())[0].value  # noqa: E731
            with patch.dict(os.environ, QK_BENCH_CACHE=str(cache)):
                once, again = timed(ours), timed(ours)
            theirs = timed(calls[name])
            for what, (took, value) in (("ours", once), ("again", again), (PEERS[name], theirs)):
                found[f"{what}, {name}"].append(took)
                found[f"value of {what}, {name}"].append(value)
    return {what: float(np.median(numbers)) for what, numbers in found.items()}


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
    faster = min(found[f"{peer}, {name}"] for name, peer in PEERS.items())
    for name, peer in PEERS.items():
        assert faster >= 1.3 * found[f"ours, {name}"]
        assert found[f"ours, {name}"] >= 20 * found[f"again, {name}"]
        assert found[f"value of ours, {name}"] == found[f"value of again, {name}"]
        assert found[f"value of ours, {name}"] == pytest.approx(found[f"value of {peer}, {name}"], abs=0.01)


def test_lpips_is_faster_than_the_package() -> None:
    assert lpips_pairs(24)[0] >= 1.5


def test_interval_of_fid_takes_less_than_30_seconds() -> None:
    assert interval_seconds() < 30


def show(what: str, ratio: float, ours: float, theirs: float, target: float) -> None:
    """Print a ratio, and whether it is what was asked."""
    mark = "ok" if ratio >= target else "MISSED"
    print(f"{what:58} {ratio:7.2f}x  (ours {ours:.3f} s, theirs {theirs:.3f} s; target {target}x) {mark}", flush=True)


def show_frechet() -> None:
    """The distance from features."""
    show("Fréchet distance, N = 500, torch-fidelity", *frechet_against_torch_fidelity(500), 30)
    show("Fréchet distance, N = 10,000, torch-fidelity", *frechet_against_torch_fidelity(10_000), 2)
    show("Fréchet distance, N = 10,000, clean-fid", *frechet_against_clean_fid(10_000), 10)
    show("the same from ready statistics, clean-fid", *frechet_from_statistics(10_000), 10)


def show_lpips(pairs: int) -> None:
    """LPIPS of both networks."""
    show(f"LPIPS AlexNet, {pairs} pairs, 256 px, lpips", *lpips_pairs(pairs), 1.5)
    show("LPIPS VGG16, 8 pairs, 256 px, lpips", *lpips_pairs(8, "vgg"), 1.5)


def show_folders(images: int, turns: int) -> None:
    """FID of two folders, each resize against the faster of both peers, as was asked, and against its own."""
    with tempfile.TemporaryDirectory() as root:
        found = fid_of_folders(Path(root), images, turns)
    size = f"{images} + {images} PNGs, 256 px"
    faster = min(found[f"{peer}, {name}"] for name, peer in PEERS.items())
    for name, peer in PEERS.items():
        ours, theirs, again = (found[f"{what}, {name}"] for what in ("ours", peer, "again"))
        show(f"FID of {size}, {name}, faster peer", faster / ours, ours, faster, 1.3)
        show(f"FID of {size}, {name}, {peer}", theirs / ours, ours, theirs, 1.3)
        show(f"FID of {size}, {name}, second call", ours / again, again, ours, 20)
        values = (found[f"value of {what}, {name}"] for what in ("ours", peer))
        print("  FID {:.6f}, theirs {:.6f}".format(*values), flush=True)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("frechet", "interval", "lpips", "folders")
    parser.add_argument("--only", choices=parts, action="append", help="a part; may be given again; else all of them")
    parser.add_argument("--images", type=int, default=1000, help="PNGs of each folder")
    parser.add_argument("--turns", type=int, default=1, help="of FID of folders: ours and the peer, each that often")
    parser.add_argument("--pairs", type=int, default=500, help="pairs of LPIPS")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = arguments.only or parts
    if "frechet" in chosen:
        show_frechet()
    if "interval" in chosen:
        print(f"interval of FID, 200 resamples, N = 1,000: {interval_seconds():.1f} s (target 30 s)", flush=True)
    if "lpips" in chosen:
        show_lpips(arguments.pairs)
    if "folders" in chosen:
        show_folders(arguments.images, arguments.turns)


if __name__ == "__main__":
    main()
