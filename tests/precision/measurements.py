"""Each promise of precision as one measurement: ours against the published implementation, on the same input."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.metrics import peers
from tests.metrics.photographs import crops, disturbed, write_folder

Images = list[NDArray[np.uint8]]
EXAMPLE_URL = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963/imgs"
)
EXAMPLE = {  # sha256
    "ex_ref.png": "57aff3a0aeb6ebea151411f35b4487ea130aedcac6addd91c8c015969f9df097",
    "ex_p0.png": "f44901a99c82755cfe78cdbde66579ae06cd0ebbba4a2539aa35ef96bbe703db",
    "ex_p1.png": "6ada2a42a3378bfa408027ba2d54a827c6f2cec30a0506e4f140fddaca661022",
}
MEASUREMENTS: list[Measurement] = []


class NotHereError(Exception):
    """What is compared with cannot be had on this machine."""


@dataclass(frozen=True)
class Measurement:
    """What is compared, with what, and how far apart the two may be."""

    what: str
    peer: str
    on: str
    bound: float
    kind: str  # absolute or relative
    compare: Callable[[], tuple[float, float, float]]  # ours, theirs, error


def measurement(what: str, peer: str, on: str, bound: float, kind: str = "absolute"):  # type: ignore[no-untyped-def]
    """Register a function that returns ours and theirs, numbers or arrays."""

    def register(function):  # type: ignore[no-untyped-def]
        def compare() -> tuple[float, float, float]:
            ours, theirs = (np.asarray(x, dtype=np.float64) for x in function())
            error = np.abs(ours - theirs)
            worst = int(error.argmax())
            largest = float(error.flat[worst]) / (abs(float(theirs.flat[worst])) if kind == "relative" else 1.0)
            return float(ours.flat[worst]), float(theirs.flat[worst]), largest

        MEASUREMENTS.append(Measurement(what, peer, on, bound, kind, compare))
        return function

    return register


@cache
def _pairs(size: int, count: int) -> tuple[Images, Images]:
    first = crops(count, size, seed=1)
    second = [disturbed(image, seed) if seed % 2 else image[::-1] for seed, image in enumerate(first)]
    return first, [np.ascontiguousarray(image) for image in second]


@cache
def _features(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inception-like features: non-negative, 2048-d, with a falling spectrum."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(2048, 2048)).astype(np.float32) * (np.arange(1, 2049)[:, None] ** -0.6).astype(np.float32)
    draws = (rng.normal(size=(count, 2048)).astype(np.float32) @ mix * 0.1 for _ in range(2))
    first, second = (np.maximum(0, draw + 0.3) for draw in draws)
    return first, second * np.float32(1.05)


@cache
def _folders() -> tuple[Path, Path, Path]:
    folder = Path(tempfile.mkdtemp(prefix="qk-bench-precision-"))
    a = write_folder(folder / "a", crops(10, 96, 0, ("astronaut", "chelsea", "coffee")))
    b = write_folder(folder / "b", crops(10, 96, 1, ("china", "flower", "rocket")))
    return folder, a, b


def _our_fid(resize: str) -> float:
    from qk_bench.metrics.features import FeatureReader
    from qk_bench.metrics.folders import Folder
    from qk_bench.metrics.frechet import frechet_distance
    from qk_bench.metrics.inception import Inception

    reader = FeatureReader(Inception(resize), store=None)  # type: ignore[arg-type]
    sets = [reader.features([reader.add(image) for image in Folder(path).images()]) for path in _folders()[1:]]
    return frechet_distance(*sets)


@measurement("PSNR", "skimage.metrics.peak_signal_noise_ratio", "12 pairs, 128 px", 1e-6)
def psnr():  # type: ignore[no-untyped-def]
    from skimage.metrics import peak_signal_noise_ratio

    from qk_bench.metrics.psnr import psnr

    pairs = list(zip(*_pairs(128, 12), strict=True))
    return [psnr(a, b) for a, b in pairs], [peak_signal_noise_ratio(a, b) for a, b in pairs]


@measurement("SSIM", "skimage.metrics.structural_similarity", "12 pairs, 128 px", 1e-6)
def ssim():  # type: ignore[no-untyped-def]
    from skimage.metrics import structural_similarity

    from qk_bench.metrics.ssim import ssim

    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
    pairs = list(zip(*_pairs(128, 12), strict=True))
    return [ssim(a, b) for a, b in pairs], [structural_similarity(a, b, **settings) for a, b in pairs]


def _colours() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (300_000, 3), dtype=np.uint8)
    near = np.clip(first.astype(np.int64) + rng.integers(-6, 7, first.shape), 0, 255).astype(np.uint8)
    second = np.where(rng.random((len(first), 1)) < 0.5, near, rng.integers(0, 256, first.shape, dtype=np.uint8))
    first[:20_000] = first[:20_000, :1]  # greys
    second[:10_000] = second[:10_000, :1]
    return first, second


@measurement("CIE76, each pixel", "skimage.color.deltaE_cie76", "300,000 pairs of colours", 1e-6)
def cie76():  # type: ignore[no-untyped-def]
    from skimage.color import deltaE_cie76, rgb2lab

    from qk_bench.metrics.color import cie76, lab

    first, second = _colours()
    return cie76(lab(first), lab(second)), deltaE_cie76(rgb2lab(first), rgb2lab(second))


@measurement("CIEDE2000, each pixel", "skimage.color.deltaE_ciede2000", "300,000 pairs of colours", 1e-6)
def ciede2000():  # type: ignore[no-untyped-def]
    from skimage.color import deltaE_ciede2000, rgb2lab

    from qk_bench.metrics.color import ciede2000_of_pixels

    first, second = _colours()
    return ciede2000_of_pixels(first, second), deltaE_ciede2000(rgb2lab(first), rgb2lab(second))


def _lpips(net: str, count: int):  # type: ignore[no-untyped-def]
    from qk_bench.metrics.lpips import network

    first, second = _pairs(128, count)
    return network(net).distances(first, second), [
        peers.lpips_naive(net, a, b) for a, b in zip(first, second, strict=True)
    ]  # type: ignore[arg-type]


@measurement("LPIPS, AlexNet", "lpips 0.1.4", "12 pairs, 128 px", 1e-5)
def lpips_alex():  # type: ignore[no-untyped-def]
    return _lpips("alex", 12)


@measurement("LPIPS, VGG16", "lpips 0.1.4", "4 pairs, 128 px", 1e-5)
def lpips_vgg():  # type: ignore[no-untyped-def]
    return _lpips("vgg", 4)


@measurement("LPIPS outside a mask, AlexNet", "lpips 0.1.4, spatial", "6 pairs, 128 px, half of each masked", 1e-5)
def drift_lpips():  # type: ignore[no-untyped-def]
    import lpips

    from qk_bench.metrics.drift_lpips import DriftLpips
    from tests.metrics.items import scored

    mask = np.zeros((128, 128), np.bool_)
    mask[:, 64:] = True
    items = [scored(b, source=a, edit_mask=mask) for a, b in zip(*_pairs(128, 6), strict=True)]
    package = peers.lpips_package("alex")
    package.spatial = True
    try:
        theirs = []
        for before, after in zip(*_pairs(128, 6), strict=True):
            kept = np.where(mask[..., None], before, after)
            theirs.append(
                float(package(lpips.im2tensor(before), lpips.im2tensor(kept))[0, 0].detach().numpy()[~mask].mean())
            )
    finally:
        package.spatial = False
    return [row[0].value for row in DriftLpips().compute(items)], theirs


def _example_images() -> Images:
    """The images of the lpips package's example, which it does not ship: from QK_BENCH_LPIPS_EXAMPLE, or its repository."""
    from PIL import Image

    own = os.environ.get("QK_BENCH_LPIPS_EXAMPLE")
    found = []
    for name, sha256 in EXAMPLE.items():
        try:
            data = (Path(own) / name).read_bytes() if own else _download(f"{EXAMPLE_URL}/{name}")
        except OSError as error:
            mend = "QK_BENCH_LPIPS_EXAMPLE=FOLDER names a folder that holds it"
            raise NotHereError(f"{name} cannot be had: {error}; {mend}") from error
        assert hashlib.sha256(data).hexdigest() == sha256, f"{name} is another file"
        found.append(np.asarray(Image.open(io.BytesIO(data))))
    return found


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        data: bytes = response.read()
    return data


@measurement("LPIPS, AlexNet, the package's own example", "its README", "ex_ref.png, ex_p0.png, ex_p1.png", 5e-4)
def lpips_example():  # type: ignore[no-untyped-def]
    from qk_bench.metrics.lpips import network

    reference, *others = _example_images()
    return network("alex").distances([reference, reference], others), (0.722, 0.138)


@measurement("Inception features", "torch-fidelity", "10 crops, 96 px, TensorFlow's resize", 1e-4)
def inception():  # type: ignore[no-untyped-def]
    import torch

    from qk_bench.metrics.inception import Inception

    images = crops(10, 96, 0)
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return Inception("tf")(images), peers.torch_fidelity_extractor(_folders()[0])(stacked)[0].numpy()


@measurement("Resize to 299 px", "clean-fid (Pillow, bicubic)", "96 and 512 px, levels of 255", 1e-3)
def clean_resize():  # type: ignore[no-untyped-def]
    from cleanfid.resize import build_resizer

    from qk_bench.metrics.resize import clean
    from tests.metrics.photographs import whole

    images = [*crops(2, 96, 0), whole("astronaut")]
    theirs = build_resizer("clean")
    return [clean(i, 299) for i in images], [theirs(i).transpose(2, 0, 1) for i in images]


@measurement("Fréchet distance, N = 500", "clean-fid", "same features, 512-d", 1e-4, "relative")
def frechet_500():  # type: ignore[no-untyped-def]
    from cleanfid.fid import fid_from_feats

    from qk_bench.metrics.frechet import frechet_distance

    first, second = (features[:, :512] for features in _features(500))
    return frechet_distance(first, second), fid_from_feats(first.astype(np.float64), second.astype(np.float64))


@measurement("Fréchet distance, N = 3,000", "torch-fidelity", "same features, 2048-d", 1e-4, "relative")
def frechet_3000():  # type: ignore[no-untyped-def]
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    from qk_bench.metrics.frechet import frechet_distance

    first, second = _features(3000)
    theirs = [fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (first, second)]
    return frechet_distance(first, second), fid_statistics_to_metric(*theirs, False)["frechet_inception_distance"]


@measurement("FID of two folders, tf-resize", "torch-fidelity", "10 + 10 PNGs, 96 px", 1e-2)
def fid_tf():  # type: ignore[no-untyped-def]
    folder, a, b = _folders()
    theirs = peers.torch_fidelity_folders(a, b, peers.inception_file(folder), fid=True)
    return _our_fid("tf"), theirs["frechet_inception_distance"]


@measurement("FID of two folders, clean-resize", "clean-fid", "10 + 10 PNGs, 96 px", 1e-2)
def fid_clean():  # type: ignore[no-untyped-def]
    folder, a, b = _folders()
    return _our_fid("clean"), peers.clean_fid_folders(a, b, peers.clean_fid_model(folder))


@measurement("KID, same subsets", "torch-fidelity", "N = 600, 20 subsets of 200", 1e-6)
def kid():  # type: ignore[no-untyped-def]
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    from qk_bench.metrics.kid import mmd2

    first, second = (features[:600] for features in _features(3000))
    rng = np.random.RandomState(2020)
    subsets = [(rng.choice(600, 200, replace=False), rng.choice(600, 200, replace=False)) for _ in range(20)]
    theirs = kid_features_to_metric(
        *(torch.from_numpy(x.astype(np.float64)) for x in (first, second)),
        kid_subsets=20,
        kid_subset_size=200,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=2020,
        verbose=False,
    )
    return mmd2(first, second, subsets).mean(), theirs["kernel_inception_distance_mean"]


@measurement("Precision and recall", "torch-fidelity", "N = 600, k = 3", 1e-6)
def precision_recall():  # type: ignore[no-untyped-def]
    import torch
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    from qk_bench.metrics.precision_recall import precision_recall

    first, second = (features[:600, :64] for features in _features(3000))
    theirs = calculate_precision_recall_full(torch.from_numpy(first), torch.from_numpy(second), 3)
    return precision_recall(first, second)[:2], theirs


@measurement("Precision, recall, density and coverage", "prdc", "N = 600, k = 3 and 5", 1e-6)
def density_coverage():  # type: ignore[no-untyped-def]
    from contextlib import redirect_stdout

    from qk_bench.metrics.precision_recall import DENSITY_K, PRECISION_K, precision_recall

    try:
        from prdc import compute_prdc
    except ImportError as error:
        raise NotHereError(f"{error}: pip install prdc") from error
    first, second = (features[:600, :64] for features in _features(3000))
    with redirect_stdout(io.StringIO()):  # it prints the numbers of images
        theirs = [compute_prdc(second, first, k) for k in (PRECISION_K, DENSITY_K)]
    names = (theirs[0], "precision"), (theirs[0], "recall"), (theirs[1], "density"), (theirs[1], "coverage")
    return precision_recall(first, second), [found[name] for found, name in names]
