"""The sheet: complete, sourced, strict."""

from __future__ import annotations

import json
from typing import Any

import pytest
from qk_model.config import PRESETS, load_preset, model_config, parse_preset, sheet, to_json

from qk_bench.errors import UsageError


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_and_survives_json(name: str) -> None:
    config = load_preset(name).model
    assert model_config(to_json(config)) == config


def test_an_unknown_key_is_refused() -> None:
    data = _copy()
    data["presets"]["micro"]["model"]["gate"]["widht"] = {"value": 1, "source": "chosen"}
    with pytest.raises(UsageError, match=r"micro\.model\.gate has the unknown key 'widht'"):
        parse_preset("micro", data)


def test_an_unknown_key_beside_a_value_is_refused() -> None:
    data = _copy()
    data["presets"]["micro"]["model"]["gate"]["width"]["sorce"] = "chosen"
    with pytest.raises(UsageError, match="unknown key sorce"):
        parse_preset("micro", data)


def test_a_missing_key_is_refused() -> None:
    data = _copy()
    del data["presets"]["paper"]["training"]["stages"]["2"]["ema_decay"]
    with pytest.raises(UsageError, match=r"stages\.2 lacks 'ema_decay'"):
        parse_preset("paper", data)


@pytest.mark.parametrize("source", [None, "someone"])
def test_a_value_without_a_known_source_is_refused(source: str | None) -> None:
    data = _copy()
    data["presets"]["base"]["model"]["resolution"] = {"value": 512, **({"source": source} if source else {})}
    with pytest.raises(UsageError, match=r"base\.model\.resolution has no source"):
        parse_preset("base", data)


@pytest.mark.parametrize("value", ["64", 64.5, True, None])
def test_a_value_of_the_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"resolution is .* expected int"):
        load_preset("micro", {"model.vlm_resolution": value} if value != "64" else {"model.vlm_resolution": "sixty"})


def test_an_override_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no value model\.gate\.size"):
        load_preset("micro", {"model.gate.size": 3})


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("training.schedule", ["1", "9"], "schedule is"),
        ("training.schedule", ["1", "1"], "schedule is"),
        ("training.schedule", [], "schedule is"),
        ("training.stages.1.query_ratio", 1.5, "query_ratio is 1.5"),
        ("training.stages.pretrain-vlm.query_ratio", 0.5, r"generation is \{\}"),
        ("training.stages.1.generation", {"draw": 1.0}, "generation has 'draw'"),
        ("training.stages.3.tasks", {}, "tasks is"),
        ("training.stages.3.resolutions", {64: 0.0}, "resolutions is"),
        ("training.stages.3.micro_batch", 0, "micro_batch is 0"),
        ("model.fusion_depth", 5, "fusion_depth is 5"),
        ("model.fusion_depth", -1, "fusion_depth is -1"),
    ],
)
def test_an_ablation_that_would_crash_or_do_nothing_is_refused(path: str, value: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_preset("micro", {path: value})


def test_the_published_values_are_those_of_the_paper() -> None:
    paper = load_preset("paper")
    stages = paper.training.stages
    assert paper.model.kontext.num_queries == 128
    assert [(stages[s].steps, stages[s].batch_size) for s in ("1", "2", "3", "3-high")] == [
        (72_000, 512), (420_000, 1024), (30_000, 512), (3_000, 512),
    ]  # fmt: skip
    assert stages["3"].lora_rank == 256
    assert "mmdit_lora" in stages["3"].trained
    assert "vlm_lora" in stages["1"].trained
    assert "mmdit" in stages["2"].trained


def _copy() -> dict[str, Any]:
    """The sheet, with each block that presets share made its own by a trip through JSON."""
    data: dict[str, Any] = json.loads(json.dumps(sheet()))
    return data
