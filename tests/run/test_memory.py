"""Running out of memory halves the batch, black images are no images, and the manifest tells what was used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import as_interrupted, make_spec, outcomes, qkbench, run_spec

from qk_bench.interfaces import Failure
from qk_bench.run.worker import answer
from qk_bench.store import RunDirectory

ADAPTERS = Path(__file__).parents[1] / "adapters.py"
HUNGRY, UNLIT, METERED, MISCOUNTING = (f"{ADAPTERS}:{name}" for name in ("Hungry", "Unlit", "Metered", "Miscounting"))


def session(out: Path, number: int = -1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())["sessions"][number]
    return found


@pytest.mark.parametrize("says", ["memory", "torch", "cuda"])
def test_out_of_memory_halves_the_batch_and_the_manifest_says_so(says: str, tmp_path: Path) -> None:
    spec = make_spec(HUNGRY, limit=19, arguments={HUNGRY: {"says": says}})
    result = run_spec(spec, tmp_path / "run")
    assert result.manifest.counts == {"hungry": {"ok": 19}}
    assert session(tmp_path / "run")["batch_sizes"] == {"hungry": {"2": 19}}


def test_outputs_after_halving_are_those_of_a_batch_that_fits(tmp_path: Path) -> None:
    for fits in (1, 3, 8):
        run_spec(make_spec(HUNGRY, limit=11, arguments={HUNGRY: {"fits": fits}}), tmp_path / str(fits))
    images = [[(line["sample_id"], line["image"]) for line in outcomes(tmp_path / str(fits))] for fits in (1, 3, 8)]
    assert images[0] == images[1] == images[2]
    assert session(tmp_path / "8")["batch_sizes"] == {}


def test_request_that_does_not_fit_alone_is_a_named_failure(tmp_path: Path) -> None:
    run_spec(make_spec(HUNGRY, limit=3, arguments={HUNGRY: {"fits": 0}}), tmp_path / "run")
    assert {(line["status"], line["detail"].partition(":")[0]) for line in outcomes(tmp_path / "run")} == {
        ("model_error", "out of memory, even one at a time")
    }


def test_resumed_run_begins_with_the_batch_that_fits(tmp_path: Path) -> None:
    spec = make_spec(HUNGRY, limit=8)
    run_spec(spec, tmp_path / "run")
    lines = (tmp_path / "run" / "outcomes.jsonl").read_bytes().splitlines(keepends=True)
    as_interrupted(tmp_path / "run")
    (tmp_path / "run" / "outcomes.jsonl").write_bytes(b"".join(lines[:5]))
    run_spec(spec, tmp_path / "run")
    assert session(tmp_path / "run")["batch_sizes"] == {"hungry": {"2": 3}}
    assert (tmp_path / "run" / "outcomes.jsonl").read_bytes() == b"".join(lines)


def test_black_image_is_an_invalid_output(tmp_path: Path) -> None:
    run_spec(make_spec(UNLIT, limit=5), tmp_path / "run")
    lines = outcomes(tmp_path / "run")
    assert [line["status"] for line in lines] == ["ok", *["invalid_output"] * 4]
    assert lines[1]["detail"].startswith("every pixel is black")


def test_black_is_accepted_only_where_it_can_be_meant() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert answer(black).status == "invalid_output"
    assert answer(black, black=True).status == "ok"
    nearly = black.copy()
    nearly[0, 0, 0] = 1
    assert answer(nearly).status == "ok"
    assert answer(Failure("refused", "no")).status == "refused"


def test_what_a_model_used_is_in_the_manifest_and_the_model_is_marked(tmp_path: Path) -> None:
    done = qkbench("run", "--task", make_spec().suites[0].ref, "--model", METERED, "--limit", "3", "--metric", "success",
                   "--out", tmp_path / "run", "--no-page")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert session(tmp_path / "run")["usage"] == {"metered": {"calls": 6}}
    assert "metered (unseeded)" in done.stdout


@pytest.mark.parametrize(("way", "kept"), [("nan", {"calls": 1}), ("text", None), ("none", None), ("raise", None)])
def test_use_that_no_manifest_can_hold_costs_no_answer(way: str, kept: dict[str, int] | None, tmp_path: Path) -> None:
    result = run_spec(make_spec(MISCOUNTING, limit=3, arguments={MISCOUNTING: {"way": way}}), tmp_path / "run")
    assert result.manifest.counts == {"miscounting": {"ok": 3}}
    assert RunDirectory(tmp_path / "run").read_manifest() == result.manifest
    assert session(tmp_path / "run")["usage"].get("miscounting") == kept


def test_model_that_can_answer_nothing_more_leaves_its_requests_open(tmp_path: Path) -> None:
    spec = make_spec(METERED, "oracle", arguments={METERED: {"calls": 4}})
    result = run_spec(spec, tmp_path / "run")
    assert result.load_failures == {"metered": "the credit is used up (buy more)"}
    assert result.manifest.counts == {"metered": {"ok": 4}, "oracle": {"ok": 10}}
    assert RunDirectory(tmp_path / "run").read_manifest() == result.manifest
    again = run_spec(spec, tmp_path / "run")
    assert again.manifest.counts["metered"] == {"ok": 8}
    assert [s["usage"]["metered"]["calls"] for s in (session(tmp_path / "run", n) for n in (0, 1))] == [4, 4]
