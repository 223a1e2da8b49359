"""The judge: a real endpoint on this machine answers; what cannot be read is an error and never a number."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import PAINTER, SQUARES, Cli, command, same_results, scores

from qk_bench.errors import UsageError
from qk_bench.images import encode_png
from qk_bench.interfaces import Scored
from qk_bench.metrics.judging.judge import Judge, JudgeImgEdit
from qk_bench.metrics.judging.rubrics import VIESCORE, AnswerError
from tests.metrics.items import scored

Answer = Callable[[dict[str, Any]], Any]
IMAGE = np.full((8, 8, 3), 90, np.uint8)


class Server:
    """An OpenAI-compatible endpoint: `answer` turns a request into a reply's text, a whole reply, or an HTTP status."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(request)
                outer.headers.append(self.headers.get("Authorization", ""))
                reply = answer(request)
                status = reply if isinstance(reply, int) else 200
                body = reply if isinstance(reply, dict) else {"choices": [{"message": {"content": reply}}]}
                data = json.dumps({"model": request["model"], **body}).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(answer))
        for name, value in {
            "URL": servers[-1].url,
            "MODEL": "judge-2026-01-01",
            "KEY": "secret",
            "REPEATS": "2",
        }.items():
            monkeypatch.setenv(f"QKBENCH_JUDGE_{name}", value)
        monkeypatch.setattr("qk_bench.metrics.judging.endpoint.ATTEMPTS", 2)
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def told(instruction: str) -> Scored:
    item = scored(IMAGE, source=IMAGE)
    return dataclasses.replace(item, sample=item.sample.model_copy(update={"instruction": instruction}))


def is_consistency(request: dict[str, Any]) -> bool:
    return len(request["messages"][0]["content"]) == 3  # text and two pictures


def by_seed(request: dict[str, Any]) -> str:
    """Scores that differ from one repeat to the next."""
    return json.dumps({"score": [9, 4 + 5 * request["seed"]] if is_consistency(request) else [9, 9], "reason": "so"})


def test_overall_is_the_root_of_the_least_scores_and_noise_is_their_spread(serve: Callable[[Answer], Server]) -> None:
    server = serve(by_seed)
    ((overall, consistency, quality, noise),) = Judge().compute([scored(IMAGE, source=IMAGE)])
    assert overall.value == pytest.approx((6 + 9) / 2)  # √(4·9) and √(9·9)
    assert (consistency.value, quality.value) == (6.5, 9)
    assert noise.value == pytest.approx(np.std([6, 9], ddof=1))
    assert len(server.requests) == 4 and set(server.headers) == {"Bearer secret"}
    assert {request["temperature"] for request in server.requests} == {0}


def test_columns_name_model_prompt_temperature_and_repeats_but_no_key(serve: Callable[[Answer], Server]) -> None:
    serve(by_seed)
    for column in Judge().columns:
        assert f"prompt={VIESCORE.digest},model=judge-2026-01-01,temperature=0,k=2" in column.id
        assert "secret" not in column.id
    assert Judge().columns[0].id != JudgeImgEdit().columns[0].id
    assert "secret" not in repr(Judge()._endpoint)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("I would give it a nine.", "no JSON object with a score"),
        ('{"score": [9]}', "expected a list of 2 scores"),
        ('{"score": [9, 11]}', "score 11 is not from 0 to 10"),
        ('{"score": [9, 8.5]}', "not a whole number"),
        ('{"score": [9, NaN]}', "not a whole number"),
        ('A draft: {"score": [1, 1]}, but on reflection {"score": [9, 9]}', "two different answers, [1, 1] and [9, 9]"),
        ('<think>It could be {"score": [9, 9]}, but', "no JSON object with a score"),
        ("", "an empty answer"),
        ({"choices": []}, "no choices[0].message.content"),
        ({"model": "judge-2025-06-06", "choices": []}, "name that snapshot"),
        (500, "the endpoint says 500"),
        (401, "the endpoint says 401"),
        (302, "the endpoint says 302"),
    ],
)
def test_what_cannot_be_read_is_a_judge_error(serve: Callable[[Answer], Server], reply: Any, said: str) -> None:
    serve(lambda request: reply)
    (values,) = Judge().compute([scored(IMAGE, source=IMAGE)])
    assert {value.value for value in values} == {None}
    assert {value.status for value in values} == {"judge_error"}
    assert said in values[0].reason and "0 of 2 answers" in values[0].reason
    assert "secret" not in values[0].reason


def test_one_unreadable_repeat_leaves_no_number_and_other_items_alone(serve: Callable[[Answer], Server]) -> None:
    def answer(request: dict[str, Any]) -> str:
        broken = request["seed"] == 1 and "bad" in request["messages"][0]["content"][0]["text"]
        return "?" if broken else by_seed(request)

    serve(answer)
    items = [told(name) for name in ("good", "bad", "good")]
    values = Judge().compute(items)
    assert [row[0].value is None for row in values] == [False, True, False]
    assert values[1][0].reason.startswith("1 of 2 answers can be used")
    assert values == [Judge().compute([item])[0] for item in items]


def test_imgedit_is_the_mean_of_three(serve: Callable[[Answer], Server]) -> None:
    serve(lambda request: 'Here it is:\n```json\n{"score": [5, 4, 3], "reason": "{x}"}\n```')
    ((overall, *rest, noise),) = JudgeImgEdit().compute([scored(IMAGE, source=IMAGE)])
    assert overall.value == 4 and [value.value for value in rest] == [5, 4, 3] and noise.value == 0


def test_without_an_endpoint_it_is_unavailable_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "MODEL"):
        monkeypatch.delenv(f"QKBENCH_JUDGE_{name}", raising=False)
    available, mend = Judge().availability()
    assert not available and "QKBENCH_JUDGE_URL" in mend


def test_a_senseless_setting_is_one_line(serve: Callable[[Answer], Server], monkeypatch: pytest.MonkeyPatch) -> None:
    serve(by_seed)
    monkeypatch.setenv("QKBENCH_JUDGE_REPEATS", "many")
    with pytest.raises(UsageError, match="QKBENCH_JUDGE_REPEATS=many is not a number from 1 to 32"):
        Judge().availability()


def test_an_answer_of_true_is_no_score() -> None:
    with pytest.raises(AnswerError, match="whole number"):
        VIESCORE.questions[0].read('{"score": [true, 3]}')


@pytest.mark.parametrize(
    "answer",
    [
        '<think>The form is {"score": [0, 0]}.</think>{"score": [9, 8]}',
        'The form is {"score": [0, 0]}.</think>{"score": [9, 8]}',
        '{"score": [9, 8]}\n```json\n{"score": [9, 8], "reason": "said twice"}\n```',
        '{"score": [9, 8], "draft": {"score": [1, 1]}}',
        '{"score": [90, 80]} is of 100, so {"score": [9, 8]}',
        '{"score": [9, 8], "reason": "it has a <think> bubble"}',
        '{"score": [9, 8], "reason": "</think> is written on it"} <think>{"score": [0, 0]}</think>',
    ],
)
def test_only_the_one_answer_is_read(answer: str) -> None:
    assert VIESCORE.questions[0].read(answer) == [9, 8]


TASK = ("--task", f"{SQUARES}/recolour", "--metric", "judge", "--no-page")
RUN = ("run", *TASK, "--model", PAINTER)


def test_a_judge_that_fails_is_told_with_the_reason_and_is_exit_code_5(
    serve: Callable[[Answer], Server], tmp_path: Path, cli: Cli
) -> None:
    serve(lambda request: "sorry")
    code, printed, _ = cli(*RUN, "--limit", "3", "--out", tmp_path / "run")
    reason = "0 of 2 answers can be used: no JSON object with a score in: sorry"
    said = f"metric judge: judge_error on 3 outputs, the first: {reason}"
    assert code == 5
    assert said in printed
    assert said in cli("show", tmp_path / "run")[1]
    shown = json.loads(cli("show", tmp_path / "run", "--format", "json")[1])
    assert shown["judge_errors"] == [{"metric": "judge", "outputs": 3, "reason": reason}]


def is_red(request: dict[str, Any]) -> bool:
    return "make the square red" in request["messages"][0]["content"][0]["text"]


def but_red(request: dict[str, Any]) -> str:
    return "sorry" if is_red(request) else by_seed(request)


def asked(server: Server) -> list[str]:
    """What was asked about edits, in an order of its own."""
    return sorted(json.dumps(request) for request in server.requests if is_consistency(request))


def images_and_outcomes(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (run / "outcomes.jsonl", *(run / "images").rglob("*.png"))}


NOTING = """
from qk_bench.interfaces import SampleMetric, Value
from qk_bench.records import MetricColumn

class Noting(SampleMetric):
    columns = (MetricColumn(id="noting", direction="none"),)

    def compute(self, items):
        with open({log!r}, "a") as file:
            print(*(item.sample.id for item in items), file=file)
        return [(Value(1.0),) for _ in items]
"""


def test_the_same_command_asks_again_only_for_what_the_judge_failed_to_give(
    serve: Callable[[Answer], Server], tmp_path: Path, cli: Cli
) -> None:
    log, metric, out = tmp_path / "measured.txt", tmp_path / "noting.py", tmp_path / "run"
    metric.write_text(NOTING.format(log=str(log)))
    words = (*RUN, "--limit", "12", "--metric", f"{metric}:Noting")
    good = serve(by_seed)
    assert cli(*words, "--out", tmp_path / "whole")[0] == 0
    log.unlink()
    serve(but_red)
    assert cli(*words, "--out", out)[0] == 5
    before = images_and_outcomes(out)
    assert cli(*words, "--out", out)[0] == 5
    again = serve(by_seed)
    code, printed, err = cli(*words, "--out", out)
    assert code == 0
    assert "judge_error" not in printed
    assert "asks again for the scores that a judge failed to give" in err
    assert 0 < len(asked(again)) < len(asked(good))
    assert asked(again) == [line for line in asked(good) if is_red(json.loads(line))]
    assert images_and_outcomes(out) == before
    assert len(log.read_text().split()) == 12
    assert same_results(tmp_path / "whole", out)
    assert not (out / "scores.jsonl").exists()
    assert "nothing to do" in cli(*words, "--out", out)[2]


def test_a_session_that_asks_again_can_be_killed_and_loses_nothing(
    serve: Callable[[Answer], Server], tmp_path: Path, cli: Cli
) -> None:
    out, words = tmp_path / "run", (*RUN, "--limit", "70", "--score-workers", "1")
    serve(by_seed)
    assert cli(*words, "--out", tmp_path / "whole")[0] == 0
    serve(but_red)
    assert cli(*words, "--out", out)[0] == 5
    before = images_and_outcomes(out)
    wrong = [row["status"] == "judge_error" for row in scores(out) if row["metric"].startswith("judge-overall")]
    first, second = sum(wrong[:64]), sum(wrong[64:])  # of the two blocks of the journal
    assert first and second
    stuck = threading.Semaphore(4 * first)  # answers the first block, and no more

    def answer_first_block(request: dict[str, Any]) -> str:
        stuck.acquire()
        return by_seed(request)

    serve(answer_first_block)
    with subprocess.Popen(command(*words, "--out", out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while (out / "scores.jsonl").read_bytes().count(b"\n") < 3:
            assert run.poll() is None
            time.sleep(0.01)
        run.kill()
    stuck.release(1000)
    again = serve(by_seed)
    assert cli(*words, "--out", out)[0] == 0
    assert len(asked(again)) == 2 * second
    assert images_and_outcomes(out) == before
    assert same_results(tmp_path / "whole", out)


def test_a_scored_folder_is_asked_again_too(serve: Callable[[Answer], Server], tmp_path: Path, cli: Cli) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(3):
        (images / f"recolour-test-{index:05d}.png").write_bytes(encode_png(np.full((64, 64, 3), 90 + index, np.uint8)))
    words = ("score", images, *TASK, "--out", tmp_path / "run")
    serve(lambda request: "sorry")
    code, printed, _ = cli(*words)
    assert code == 5
    assert "judge_error on 3 outputs" in printed
    again = serve(by_seed)
    assert cli(*words)[0] == 0
    assert len(again.requests) == 3 * 4


def test_a_judge_of_several_tasks_and_models_counts_each_output_once(
    serve: Callable[[Answer], Server], tmp_path: Path, cli: Cli
) -> None:
    serve(lambda request: "sorry")
    words = ("--task", f"{SQUARES}/remove", "--model", "no-op", "--limit", "2", "--out", tmp_path / "run")
    _, printed, _ = cli(*RUN, *words)
    assert "judge_error on 8 outputs" in printed
