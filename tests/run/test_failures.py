"""Whatever a model does is a named outcome of the right request, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from faulty import GUILTY
from harness import FAULTY, PAINTER, YARDSTICKS, Silent, make_spec, outcomes, qkbench, run_spec, scores

from qk_bench.run.summary import summarise
from qk_bench.store import RunDirectory

WHOLE_CALL = {
    "raise": ("model_error", "ValueError: first line second line of <object object at 0x…>"),
    "unprintable": ("model_error", "OSError: no file \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m"),
    "speechless": ("model_error", "SpeechlessError"),
    "exit": ("model_error", "SystemExit: left"),
    "kill": ("model_error", "the worker was killed (SIGKILL; out of memory?)"),
    "segfault": ("model_error", "the worker crashed (SIGSEGV)"),
    "hang": ("timeout", "no answer within 0.6 s"),
    "count": ("invalid_output", "returned 3 outputs for 4 requests"),
}
ONE_IMAGE = {
    "float": "returned a float32 array, expected uint8",
    "nan": "returned a float32 array with NaN, expected uint8",
    "grey": "returned an array of shape (64, 64), expected (H, W, 3)",
    "alpha": "returned an array of shape (64, 64, 4), expected (H, W, 3)",
    "empty": "empty image",
    "huge": "image of 9000x9000 pixels",
    "none": "returned NoneType",
    "no failure": "returned a Failure of status 'ok'",
    "text": "returned str",
    "RGBA": "image of mode RGBA, expected RGB",
    "L": "image of mode L, expected RGB",
    "P": "image of mode P, expected RGB",
    "CMYK": "image of mode CMYK, expected RGB",
    "I;16": "image of mode I;16, expected RGB",
    "F": "image of mode F, expected RGB",
    "1": "image of mode 1, expected RGB",
}


@pytest.mark.parametrize("fault", WHOLE_CALL)
def test_batch_that_fails_costs_only_the_guilty_request(fault: str, tmp_path: Path) -> None:
    status, detail = WHOLE_CALL[fault]
    spec = make_spec(FAULTY, limit=10, arguments={FAULTY: {"fault": fault, "batch_size": 4}}, timeout=0.6)
    result = run_spec(spec, tmp_path / "run")
    lines = {line["sample_id"]: line for line in outcomes(tmp_path / "run")}
    assert len(lines) == 10
    assert {line["status"] for name, line in lines.items() if name != GUILTY} == {"ok"}
    assert lines[GUILTY]["status"] == status
    assert lines[GUILTY]["detail"].startswith(detail)
    assert "\n" not in lines[GUILTY]["detail"]
    assert lines[GUILTY]["image"] is None
    assert result.manifest.status == "complete"


def test_images_are_the_same_whether_a_neighbour_failed_or_not(tmp_path: Path) -> None:
    for fault, batch in (("raise", 4), ("nothing", 4)):
        run_spec(make_spec(FAULTY, arguments={FAULTY: {"fault": fault, "batch_size": batch}}), tmp_path / fault)
    images = [
        {line["sample_id"]: line["image"] for line in outcomes(tmp_path / fault) if line["sample_id"] != GUILTY}
        for fault in ("raise", "nothing")
    ]
    assert images[0] == images[1]


def test_every_kind_of_garbage_is_an_invalid_output(tmp_path: Path) -> None:
    models = []
    for number, fault in enumerate(ONE_IMAGE):
        path = tmp_path / f"m{number}.py"
        source = Path(FAULTY.partition(":")[0])
        path.write_text(f"import sys; sys.path.insert(0, {str(source.parent)!r})\nfrom faulty import Faulty\n")
        models.append((f"{path}:Faulty", fault))
    spec = make_spec(*[ref for ref, _ in models], limit=5, arguments={ref: {"fault": fault} for ref, fault in models})
    run_spec(spec, tmp_path / "run")
    lines = outcomes(tmp_path / "run")
    assert len(lines) == 5 * len(ONE_IMAGE)
    for fault, said in ONE_IMAGE.items():
        mine = {line["sample_id"]: line for line in lines if line["model"] == f"faulty-{fault}"}
        assert mine.pop(GUILTY)["detail"].startswith(said)
        assert {line["status"] for line in mine.values()} == {"ok"}
    assert {line["status"] for line in lines if line["sample_id"] == GUILTY} == {"invalid_output"}


def test_pil_images_are_accepted_and_refusals_are_named(tmp_path: Path) -> None:
    for fault, status in (("pil", "ok"), ("refused", "refused")):
        run_spec(make_spec(FAULTY, limit=5, arguments={FAULTY: {"fault": fault}}), tmp_path / fault)
        line = next(line for line in outcomes(tmp_path / fault) if line["sample_id"] == GUILTY)
        assert line["status"] == status
    assert line["detail"] == "not allowed"


def test_image_of_another_size_is_kept_resampled_for_metrics_and_recorded(tmp_path: Path) -> None:
    metrics = ("success", f"{YARDSTICKS}:Error")
    run_spec(make_spec(FAULTY, limit=5, arguments={FAULTY: {"fault": "larger"}}, metrics=metrics), tmp_path / "run")
    line = next(line for line in outcomes(tmp_path / "run") if line["sample_id"] == GUILTY)
    assert (line["status"], line["width"], line["height"]) == ("ok", 128, 128)
    assert line["detail"] == "returned at 128x128, resampled to 64x64 for metrics"
    assert all(row["status"] == "ok" and row["value"] is not None for row in scores(tmp_path / "run"))


def test_failure_is_a_null_with_its_name_and_counts_as_not_successful(tmp_path: Path) -> None:
    metrics = ("success", f"{YARDSTICKS}:Error")
    run_spec(make_spec(FAULTY, "oracle", arguments={FAULTY: {"fault": "raise"}}, metrics=metrics), tmp_path / "run")
    rows = [row for row in scores(tmp_path / "run") if row["model"] == "faulty-raise"]
    failed = [row for row in rows if row["sample_id"] == GUILTY]
    assert [(row["metric"], row["value"], row["status"]) for row in failed] == [
        (metric, None, "model_error") for metric in ("success", "error", "one")
    ]
    assert len(rows) == 30
    summary = summarise(RunDirectory(tmp_path / "run"))
    success, one = (summary.line("faulty-raise", "squares/recolour", metric) for metric in ("success", "one"))
    assert success is not None
    assert success.estimate is not None
    assert success.estimate.n == 10
    assert one is not None
    assert one.estimate is not None
    assert (one.estimate.n, one.estimate.value, one.without_value) == (9, 1.0, {"model_error": 1})


def test_death_of_a_worker_is_noticed_though_a_process_that_it_started_lives_on(tmp_path: Path) -> None:
    spec = make_spec(FAULTY, limit=5, arguments={FAULTY: {"fault": "orphan"}})
    run_spec(spec, tmp_path / "run")
    line = next(line for line in outcomes(tmp_path / "run") if line["sample_id"] == GUILTY)
    assert (line["status"], line["detail"]) == ("model_error", "the worker left with exit code 7")
    timings = map(json.loads, (tmp_path / "run" / "timings.jsonl").read_text().splitlines())
    assert next(timing["seconds"] for timing in timings if timing["sample_id"] == GUILTY) < 15


def test_what_a_model_prints_stays_out_of_our_output(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [
        "run",
        "--task",
        make_spec().suites[0].ref,
        "--model",
        FAULTY,
        "--limit",
        "5",
        "--metric",
        "success",
        "--out",
        out,
    ]
    done = qkbench(*words, "--model-arg", "fault=stdout")
    assert done.returncode == 0, done.stderr
    assert "this is not ours" not in done.stdout + done.stderr
    assert (out / "logs" / "faulty-stdout.log").read_text() == "{this is not ours}\n{neither is this}\n"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("setup", "FileNotFoundError: no weights.safetensors look elsewhere"),
        ("setup crash", "the worker was killed (SIGKILL; out of memory?)"),
    ],
)
def test_model_that_cannot_be_loaded_leaves_its_requests_open_and_the_others_go_on(
    fault: str, said: str, tmp_path: Path
) -> None:
    spec = make_spec(FAULTY, "oracle", arguments={FAULTY: {"fault": fault}})
    result = run_spec(spec, tmp_path / "run")
    assert result.load_failures == {f"faulty-{fault}": said}
    assert result.manifest.status == "partial"
    assert result.manifest.counts["oracle"] == {"ok": 10}
    assert {row["model"] for row in scores(tmp_path / "run")} == {"oracle"}
    again = run_spec(spec, tmp_path / "run")
    assert again.load_failures == result.load_failures


def test_model_that_is_mended_is_taken_up_where_it_was_left(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    model = tmp_path / "model.py"
    model.write_text(
        f"import sys; sys.path.insert(0, {str(Path(PAINTER).parent)!r})\n"
        "from pathlib import Path\nfrom faulty import Painter\n"
        f"class Late(Painter):\n    def setup(self):\n        Path({str(weights)!r}).read_text()\n"
    )
    spec = make_spec(f"{model}:Late", "oracle")
    assert run_spec(spec, tmp_path / "run").manifest.status == "partial"
    weights.write_text("")
    result = run_spec(spec, tmp_path / "run")
    assert result.manifest.status == "complete"
    assert result.manifest.counts == {"painter": {"ok": 10}, "oracle": {"ok": 10}}


def test_too_many_failures_stop_the_run_and_it_can_be_continued(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [
        "run",
        "--task",
        f"{make_spec().suites[0].ref}/recolour",
        "--model",
        "precomputed:" + str(tmp_path / "images"),
    ]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "recolour-test-00000.png").write_bytes(b"not an image")
    stopped = qkbench(*words, "--metric", "success", "--limit", "200", "--max-failures", "3", "--out", out)
    assert stopped.returncode == 1
    assert "error: stopped after" in stopped.stderr
    assert "PARTIAL" in stopped.stdout
    done = qkbench(*words, "--metric", "success", "--limit", "200", "--out", out)
    assert done.returncode == 5
    assert json.loads((out / "manifest.json").read_text())["counts"] == {
        "precomputed:images": {"invalid_output": 1, "missing": 199}
    }


def test_duplicate_sample_ids_are_refused(tmp_path: Path) -> None:
    suite = tmp_path / "twins.py"
    text = Path(make_spec().suites[0].ref.partition(":")[0]).read_text()
    suite.write_text(text.replace("{index:05d}", "{index // 2:05d}"))
    with pytest.raises(Exception, match="calls two samples recolour-test-00000"):
        run_spec(make_spec(task=f"{suite}:SUITE/recolour"), tmp_path / "run", Silent())


def test_model_that_never_gets_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qk_bench.run.generate.LOAD_SECONDS", 0.5)
    model = tmp_path / "stuck.py"
    model.write_text(
        "import time\nfrom qk_baselines.controls import NoOp\n"
        "class Stuck(NoOp):\n    def setup(self):\n        time.sleep(1000)\n"
    )
    result = run_spec(make_spec(f"{model}:Stuck"), tmp_path / "run")
    assert result.load_failures == {"no-op": "not ready within 0.5 s"}
