"""The verifier's own quality: what must pass passes, what must fail fails, at least 500 cases of each kind."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from qk_tasks.scenes import SUITE

from .corruptions import BENIGN, WRONG, cases, pass_rate

SMALL = [name for name in BENIGN if "256" not in name]


@pytest.mark.parametrize("name", SMALL)
def test_a_right_edit_survives(name: str) -> None:
    rate, said = pass_rate(BENIGN[name], "test", 64, 500)
    assert rate >= 0.99, [line for line in said if "passed" not in line]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_edit_fails(name: str) -> None:
    rate, said = pass_rate(WRONG[name], "test", 64, 500)
    assert rate <= 0.01, [line for line in said if "passed" in line]


@pytest.mark.parametrize("name", ["the target itself", "nothing done"])
def test_oracle_and_no_op_are_exact(name: str) -> None:
    change, passes = (BENIGN[name], 1.0) if name in BENIGN else (WRONG[name], 0.0)
    assert pass_rate(change, "val", 64, 500)[0] == passes


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in BENIGN if "256" in n])
def test_a_right_edit_survives_at_256_pixels(name: str) -> None:
    rate, said = pass_rate(BENIGN[name], "test", 256, 500)
    assert rate >= 0.99, [line for line in said if "passed" not in line]


def test_a_stronger_ghost_is_never_judged_better() -> None:
    shares = (0.0, 0.05, 0.15, 0.3, 0.6, 1.0)
    rates = []
    for share in shares:
        passed = []
        for task in SUITE.tasks.values():
            for index in range(25):
                s = task.sample("val", index, 64)
                assert s.source is not None and s.target is not None
                image = (s.target + share * (s.source.astype(float) - s.target) + 0.5).astype(np.uint8)
                passed.append(task.verify(s, image).success)
        rates.append(np.mean(passed))
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1.0 and rates[-1] == 0.0


@pytest.mark.parametrize("side", [48, 96, 128, 256])
def test_an_output_of_another_size_is_judged_by_its_content(side: int) -> None:
    for sample, image in cases(BENIGN["the target itself"], "val", 64, 60):
        resized = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        assert SUITE.tasks[sample.task].verify(sample, resized).success
        wrong = np.asarray(Image.fromarray(sample.source).resize((side, side), Image.Resampling.BICUBIC))
        assert not SUITE.tasks[sample.task].verify(sample, wrong).success


@pytest.mark.parametrize("fill", [0, 127, 255])
def test_a_flat_image_never_passes(fill: int) -> None:
    for task in SUITE.tasks.values():
        for index in range(20):
            sample = task.sample("val", index, 64)
            verdict = task.verify(sample, np.full((64, 64, 3), fill, dtype=np.uint8))
            assert not verdict.success and verdict.reason


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "nothing done",
            ("not done", "missing", "wrong place", "wrong size", "wrong shape", "wrong colour", "remnant"),
        ),
        ("another object recoloured", ("other object changed",)),
        ("blur, σ = 2 % of the width", ("blurred",)),
        ("whole image tinted by ΔE 6", ("tinted", "changed", "wrong colour", "remnant", "not done", "missing")),
    ],
)
def test_the_reason_names_what_is_wrong(name: str, words: tuple[str, ...]) -> None:
    _, said = pass_rate(WRONG[name], "val", 64, 120)
    named = [any(word in line for word in words) for line in said]
    assert np.mean(named) >= 0.8, said
