"""`qkbench score A --reference B`: two plain folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from badfiles import bad_files
from harness import Cli
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from tests.metrics.conftest import pinned_weights
from tests.metrics.photographs import crops, disturbed, write_folder

__all__ = ["pinned_weights"]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Twelve photographs, and the same with noise under the same names."""
    images = crops(12, 64, 0)
    noisy = [disturbed(image, seed) for seed, image in enumerate(images)]
    return write_folder(tmp_path / "a", noisy), write_folder(tmp_path / "b", images)


@pytest.mark.slow
def test_unrelated_photographs_are_scored_with_all_metrics(pinned_weights: None, tmp_path: Path, cli: Cli) -> None:
    first = write_folder(tmp_path / "a", crops(105, 64, 0, ("astronaut", "coffee")))
    second = write_folder(tmp_path / "b", crops(101, 64, 1, ("china", "flower")))
    for number, file in enumerate(sorted(second.iterdir())):
        file.rename(second / f"other-{number}.png")
    code, out, err = cli("score", first, "--reference", second, "--metric", "all", "--format", "json")
    assert code == 0
    assert "features of images: 206" in err
    found = json.loads(out)
    results = {row["metric"].split("[")[0]: row for row in found["results"]}
    assert set(results) == {"fid", "kid", "precision", "recall", "density", "coverage"}
    for name in ("kid", "precision", "recall"):
        assert results[name]["low"] <= results[name]["value"] <= results[name]["high"]
        assert "n=105:101" in results[name]["metric"]
    assert (results["fid"]["value"], results["fid"]["reason"]) == (None, "101 images; fid needs 500 on each side")
    unavailable = found["unavailable_metrics"]
    assert "no file of one folder is named like one of the other" in unavailable["psnr"]
    assert "--task" in unavailable["drift"]
    assert "--task" in unavailable["success"]


def test_files_of_one_name_are_compared_as_pairs(pair: tuple[Path, Path], cli: Cli) -> None:
    code, out, _ = cli("score", pair[0], "--reference", pair[1], "--metric", "pixel", "--format", "json")
    assert code == 0
    results = {row["metric"]: row for row in json.loads(out)["results"]}
    assert set(results) == {"psnr[cap=100]", "ssim[gaussian=1.5]", "ciede2000", "cie76"}
    expected = [
        peak_signal_noise_ratio(*(np.asarray(Image.open(folder / f"{i:05d}.png")) for folder in pair[::-1]))
        for i in range(12)
    ]
    psnr = results["psnr[cap=100]"]
    assert psnr["value"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert psnr["low"] < psnr["value"] < psnr["high"]
    assert psnr["n"] == 12


def test_what_is_no_image_is_named_and_left_out_and_the_rest_scored(
    pair: tuple[Path, Path], tmp_path: Path, cli: Cli
) -> None:
    bad = bad_files(pair[0])
    damaged = pair[0] / "00003.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    code, out, err = cli("score", pair[0], "--reference", pair[1], "--metric", "psnr", "--format", "json")
    found = json.loads(out)
    assert (code, found["results"][0]["n"]) == (5, 11)
    assert list(found["broken"]["folder"]) == ["00003.png"]  # the others have no pair, and nothing asks for them
    code, out, err = cli("score", pair[0], "--reference", pair[1], "--metric", "psnr", "--metric", "kid")
    assert code == 5
    assert "Traceback" not in err
    assert "psnr[cap=100] ↑" in out
    (line,) = [line for line in err.splitlines() if "00003.png" in line]
    assert line.startswith(f"left out: {damaged}: corrupt or truncated image")
    assert "not computed: kid" in out or "kid needs 100 on each side" in out
    if "not computed: kid" not in out:
        for path, said in bad.values():
            assert any(str(path) in line and said in line for line in err.splitlines()), path


def test_outputs_of_another_size_are_resampled_and_that_is_said(pair: tuple[Path, Path], cli: Cli) -> None:
    Image.open(pair[0] / "00000.png").resize((32, 32)).save(pair[0] / "00000.png")
    code, out, _ = cli("score", pair[0], "--reference", pair[1], "--metric", "psnr", "--format", "json")
    assert code == 0
    assert json.loads(out)["results"][0]["reason"] == "1 resampled to the size of their reference"


def test_tampered_weights_are_refused_by_name_and_the_other_metrics_go_on(
    pinned_weights: None, pair: tuple[Path, Path], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qk_bench import weights
    from qk_bench.metrics.lpips import network

    whole = weights.path("lpips-alex").read_bytes()
    monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path / "cache"))
    weights.path("lpips-alex").parent.mkdir(parents=True)
    weights.path("lpips-alex").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    network.cache_clear()
    code, out, _ = cli("score", pair[0], "--reference", pair[1], "--metric", "lpips", "--metric", "psnr")
    assert code == 0
    assert f"not computed: lpips: weights lpips-alex refused: the sha256 of {weights.path('lpips-alex')} is" in out
    assert "qkbench weights pull lpips-alex replaces it" in out
    assert "psnr[cap=100] ↑" in out
    code, out, _ = cli("score", pair[0], "--reference", pair[1], "--metric", "kid", "--metric", "psnr")
    assert "not computed: kid: weights inception-tf are missing: qkbench weights pull inception-tf" in out


def test_progress_is_a_line_now_and_then_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from qk_bench.cli import progress

    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.StepLines() as steps:
        for done in range(1, 101):
            now += 1.0
            steps.show("features", done, 100)
        steps.show("kid", 0, 0)
    expected = ["features: 100", "features: 31 of 100, about 67 s left", "features: 61 of 100, about 38 s left"]
    assert capsys.readouterr().err.splitlines() == [*expected, "features: 91 of 100, about 9 s left", "kid"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name --task, or --reference"),
        (("--reference", "B", "--task", "edit"), "--task cannot be given beside it"),
        (("--reference", "B", "--limit", "3", "--fresh"), "--limit, --fresh cannot be given beside it"),
        (("--task", "edit", "--format", "json"), "--format goes with --reference"),
        (("--reference", "nowhere"), "there is no folder nowhere"),
        (("--reference", "EMPTY"), "holds no image"),
        (("--reference", "B", "--metric", "psnrr"), "there is no metric 'psnrr'; did you mean psnr"),
    ],
)
def test_mistakes_are_one_clear_line(
    words: tuple[str, ...], said: str, pair: tuple[Path, Path], tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"B": pair[1], "EMPTY": tmp_path / "empty"}
    code, out, err = cli("score", pair[0], *(places.get(word, word) for word in words))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
