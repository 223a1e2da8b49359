"""A plain function is a model, and a function may make one."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import SQUARES, make_spec, outcomes, run_spec

from qk_bench.conformance import check_model, failures
from qk_bench.errors import UsageError
from qk_bench.plugins import file_digest, find_tasks, load_model

ADAPTERS = Path(__file__).parent / "adapters.py"
STRIPE, BY_ARGUMENT = f"{ADAPTERS}:stripe", f"{ADAPTERS}:by_argument"


def test_function_is_a_model_that_keeps_the_promises() -> None:
    task = find_tasks([f"{SQUARES}/recolour"])[0].task
    model = load_model(STRIPE, {"height": 4})
    assert model.card.name == "stripe"
    assert model.card.arguments == {"height": 4, "grey": 200}
    assert failures(check_model(model, [task.sample("test", index, 48) for index in range(3)])) == []


def test_function_runs_in_a_worker_and_a_misnamed_argument_is_one_line(tmp_path: Path) -> None:
    run_spec(make_spec(STRIPE, limit=4, arguments={STRIPE: {"height": 3}}), tmp_path / "run")
    assert [line["status"] for line in outcomes(tmp_path / "run")] == ["ok"] * 4
    with pytest.raises(UsageError, match=r"stripe\(\): got an unexpected keyword argument 'hight'"):
        load_model(STRIPE, {"hight": 3})


def test_one_name_may_stand_for_two_models(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert load_model(BY_ARGUMENT).card.name == "no-op"
    assert load_model(f"{BY_ARGUMENT}:{tmp_path}").card.name == f"precomputed:{tmp_path.name}"


def test_registered_name_before_the_colon_wins_over_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "images.py:Odd"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    assert load_model(f"precomputed:{folder}").card.name == "precomputed:images.py:Odd"
    assert file_digest(f"precomputed:{folder}") == ""


@pytest.mark.parametrize(
    ("body", "said"), [("Thing = int", "not a subclass"), ("def Thing(): return 3", "gives a int")]
)
def test_what_is_no_model_is_refused(body: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text(body + "\n")
    with pytest.raises(UsageError, match=said):
        load_model(f"{tmp_path / 'thing.py'}:Thing")
