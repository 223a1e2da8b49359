"""A request is decided by what it is, never by where it stands."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from harness import PAINTER, SQUARES, make_spec
from hypothesis import given
from hypothesis import strategies as st

from qk_bench.errors import UsageError
from qk_bench.plugins import find_tasks, load_model
from qk_bench.records import Sample
from qk_bench.run.plan import (
    SampleReader,
    Segment,
    card_digest,
    make_request,
    noise_seed,
    outcome_key,
    ranges,
    sample_digest,
    segments_of,
)


def a_sample(index: int = 0) -> Sample:
    return find_tasks([f"{SQUARES}/recolour"])[0].task.sample("test", index, 64)


def test_noise_seeds_are_these_numbers() -> None:
    assert noise_seed("scenes", "color_swap-test-0", 0) == 4720212244902682165
    assert noise_seed("scenes", "color_swap-test-0", 1) == 1088264202064271053


def test_noise_seeds_differ_between_samples_seeds_and_suites() -> None:
    made = {noise_seed(s, f"a-{i}", k) for s, i, k in itertools.product(("x", "y"), range(50), range(3))}
    assert len(made) == 300
    assert all(0 <= seed < 1 << 63 for seed in made)


def test_request_holds_no_answer() -> None:
    request = make_request(a_sample(), load_model(PAINTER).card, 0)
    assert request.privileged is None
    assert request.region is None
    assert not {"target", "edit_mask", "target_scene", "source_scene", "target_caption"} & set(
        type(request).model_fields
    )


def test_only_declared_models_get_the_region_or_the_answer() -> None:
    card = load_model(PAINTER).card
    assert make_request(a_sample(), card.model_copy(update={"uses_region": True}), 0).region is not None
    assert make_request(a_sample(), load_model("oracle").card, 0).privileged is not None


def test_key_covers_card_sample_and_seed() -> None:
    card = load_model(PAINTER).card
    changed = [
        card.model_copy(update=update)
        for update in (
            {"version": "2"},
            {"weights": "ab"},
            {"batch_size": 2},
            {"arguments": {"seconds": 1.0}},
            {"name": "other"},
        )
    ]
    sample = a_sample()
    target = sample.target.copy() if sample.target is not None else np.zeros((1, 1, 3), np.uint8)
    target[0, 0] ^= 1
    samples = [sample, a_sample(1), sample.model_copy(update={"target": target})]
    samples.append(sample.model_copy(update={"instruction": "paint it"}))
    keys = {
        outcome_key(card_digest(c), sample_digest(s), seed)
        for c, s, seed in itertools.product([card, *changed], samples, (1, 2))
    }
    assert len(keys) == 6 * 4 * 2
    assert outcome_key(card_digest(card), sample_digest(a_sample()), 1) in keys


@given(st.sets(st.integers(0, 60), min_size=1), st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True))
def test_positions_and_requests_are_one_to_one(indices: set[int], seeds: list[int]) -> None:
    spec = make_spec("no-op")
    task = spec.tasks[0].model_copy(update={"indices": ranges(list(indices))})
    segment = Segment(0, spec.models[0], task, tuple(seeds))
    pairs = [segment.at(position) for position in range(len(segment))]
    assert pairs == list(itertools.product(sorted(indices), seeds))
    assert [segment.position(*pair) for pair in pairs] == list(range(len(segment)))
    assert segment.position(61, seeds[0]) is None
    assert segment.position(min(indices), 9) is None
    assert sum(len(segment.block(block)) for block in range(segment.blocks)) == len(segment)


def test_plan_goes_model_by_model() -> None:
    spec = make_spec("no-op", "oracle", task=SQUARES, limit=100, seeds=(0, 2))
    plan = [(s.model.card.name, s.task.task, len(s)) for s in segments_of(spec)]
    assert plan == [
        ("no-op", "recolour", 200),
        ("no-op", "remove", 80),
        ("oracle", "recolour", 200),
        ("oracle", "remove", 80),
    ]


def test_task_that_cannot_make_a_sample_is_one_clear_line() -> None:
    task = find_tasks([f"{SQUARES}/recolour"])[0].task
    with pytest.raises(UsageError, match=r"^squares are drawn from 16 to 256 pixels a side, not 8$"):
        SampleReader(task, "test", 8).read(0)
    with pytest.raises(UsageError, match="squares/recolour, split test, sample -1 cannot be made: ValueError"):
        SampleReader(task, "test", 64).read(-1)
