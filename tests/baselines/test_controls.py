"""The controls do what they are there for, and keep the promises of a model."""

from __future__ import annotations

import numpy as np
import pytest
from harness import SQUARES

from qk_bench.conformance import check_model, failures
from qk_bench.interfaces import Failure
from qk_bench.plugins import find_tasks, load_model
from qk_bench.records import Sample
from qk_bench.run.plan import make_request

CONTROLS = ("no-op", "oracle", "noise")


@pytest.fixture
def samples() -> list[Sample]:
    task = find_tasks([f"{SQUARES}/recolour"])[0].task
    return [task.sample("test", index, 48) for index in range(4)]


@pytest.mark.parametrize("name", CONTROLS)
def test_control_keeps_the_promises_of_a_model(name: str, samples: list[Sample]) -> None:
    assert failures(check_model(load_model(name), samples)) == []


def test_no_op_gives_the_source_and_oracle_the_target(samples: list[Sample]) -> None:
    for name, field in (("no-op", "source"), ("oracle", "target")):
        model = load_model(name)
        images = model.generate([make_request(sample, model.card, 0) for sample in samples])
        assert all(np.array_equal(image, getattr(s, field)) for image, s in zip(images, samples, strict=True))


def test_noise_depends_on_the_seed_alone(samples: list[Sample]) -> None:
    model = load_model("noise")
    one, two = (model.generate([make_request(s, model.card, seed) for s in samples]) for seed in (0, 1))
    assert not any(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert abs(np.mean([np.asarray(image).mean() for image in one]) - 127.5) < 3


def test_only_the_oracle_is_privileged_and_it_fails_by_name_without_a_target(samples: list[Sample]) -> None:
    assert [name for name in CONTROLS if load_model(name).card.privileged] == ["oracle"]
    oracle = load_model("oracle")
    bare = samples[0].model_copy(update={"target": None})
    (failure,) = oracle.generate([make_request(bare, oracle.card, 0)])
    assert isinstance(failure, Failure)
    assert failure.status == "missing"
