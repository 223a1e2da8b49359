"""`api:URL#MODEL` against a real server on this machine: what it sends, and what it makes of every kind of answer."""

from __future__ import annotations

import io
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from baselines.images_server import KEY, Server, serving
from harness import SQUARES, make_spec, outcomes, qkbench, run_spec
from PIL import Image
from qk_baselines.api_client import Client, Limits

from qk_bench.errors import UnusableModelError, UsageError
from qk_bench.interfaces import Failure, Model
from qk_bench.plugins import find_tasks, load_model
from qk_bench.records import Request
from qk_bench.run.plan import make_request
from qk_bench.run.worker import answer

QUICK = {"backoff": 0.01, "timeout": 20}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


def made(server: Server, **arguments: Any) -> Model:
    model = load_model(f"api:{server.url}#painter", {**QUICK, **arguments})
    model.setup()
    return model


def request(prompt: str, model: Model, **changes: Any) -> Request:
    sample = find_tasks([f"{SQUARES}/recolour"])[0].task.sample("test", 0, 64)
    return make_request(sample.model_copy(update={"instruction": prompt, **changes}), model.card, 0)


@pytest.mark.parametrize(
    ("prompt", "status", "detail", "calls"),
    [
        ("ok", "ok", "", 1),
        ("429 500 ok", "ok", "", 3),
        ("hangup ok", "ok", "", 2),
        ("hang ok", "ok", "", 2),
        ("rgba", "ok", "", 1),
        ("url", "ok", "", 1),
        ("500", "model_error", "HTTP 500: oops; tried 3 times", 3),
        ("429", "model_error", "HTTP 429: slow down; tried 3 times", 3),
        ("400", "model_error", "HTTP 400: no such size for [key]", 1),
        ("hangup", "model_error", "no connection: ProtocolError; tried 3 times", 3),
        ("redirect", "model_error", "HTTP 302: no reason given", 1),
        ("refusal", "refused", "HTTP 400: rejected by the safety system", 1),
        ("policy", "refused", "HTTP 403: This violates our content_policy.", 1),
        ("hang", "timeout", "no answer within 1.5 s; tried 3 times", 3),
        ("drip", "timeout", "no answer within 1.5 s; tried 3 times", 3),
        ("html", "invalid_output", "the answer is not JSON", 1),
        ("flood", "invalid_output", "an answer of more than 1048576 bytes", 1),
        ("empty", "invalid_output", "the answer holds no image", 1),
        ("junk", "invalid_output", "not a readable PNG, JPEG, WEBP file", 1),
        ("letters", "invalid_output", "the image of the answer is not base64", 1),
        ("elsewhere", "invalid_output", "the answer points to an image that is not at an https address", 1),
        ("clear", "invalid_output", "image with transparency, expected an opaque one", 1),
    ],
)
def test_every_kind_of_answer_has_its_outcome(
    prompt: str, status: str, detail: str, calls: int, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QK_BENCH_API_KEY", KEY)
    monkeypatch.setattr("qk_baselines.api_client.MAX_BODY", 1 << 20)
    model = made(server, max_retries=2, timeout=1.5 if prompt.startswith(("hang", "drip")) else 20)
    (output,) = model.generate([request(prompt, model)])
    found = answer(output)
    assert (found.status, found.detail[: len(detail)]) == (status, detail)
    assert model.usage()["calls"] == len(server.posts) == calls
    assert KEY not in found.detail


@pytest.mark.parametrize("prompt", ["401", "quota"])
def test_refused_key_ends_the_model_without_showing_it(
    prompt: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QK_BENCH_API_KEY", KEY)
    model = made(server)
    with pytest.raises(UnusableModelError, match="check the key in the environment") as said:
        model.generate([request(prompt, model)])
    assert KEY not in str(said.value)
    assert len(server.posts) == 1


@pytest.mark.parametrize("end", ["\r", "\n", " \r\n"])
def test_what_stands_behind_the_key_is_not_sent(end: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QK_BENCH_API_KEY", KEY + end)
    model = made(server)
    (output,) = model.generate([request("ok", model)])
    assert answer(output).status == "ok"
    assert server.posts[0][1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [f"{KEY}\rx", f"{KEY}…", f"my {KEY}"])
def test_key_that_cannot_be_one_is_one_line_without_it(
    key: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QK_BENCH_API_KEY", key)
    with pytest.raises(UsageError, match="QK_BENCH_API_KEY holds a space") as said:
        made(server)
    assert KEY not in str(said.value)
    assert server.posts == []


def test_client_does_not_quote_a_key_that_it_cannot_send(server: Server) -> None:
    found = Client(server.url, f"{KEY}\rx", Limits()).call("images/generations", b"{}", "application/json")
    assert isinstance(found, Failure)
    assert (found.status, found.detail) == ("model_error", "the request cannot be sent: ValueError")


def test_edit_sends_the_image_the_mask_and_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    model = made(server, key_env="MY_KEY", size="64x64", uses_region=True, seed_field="seed")
    asked = request("ok", model)
    model.generate([asked])
    path, headers, fields, _ = server.posts[0]
    assert (path, headers["Authorization"]) == ("/v1/images/edits", f"Bearer {KEY}")
    assert {name: fields[name] for name in ("model", "prompt", "n", "size", "seed")} == {
        "model": "painter", "prompt": "ok", "n": "1", "size": "64x64", "seed": str(asked.seed % 2**31),
    }  # fmt: skip
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(fields["image"]))), asked.source)
    assert asked.region is not None
    alpha = np.asarray(Image.open(io.BytesIO(fields["mask"])).getchannel("A"))
    assert np.array_equal(alpha == 0, asked.region.mask)


def test_text_alone_is_drawn_and_references_are_sent_as_a_list(server: Server) -> None:
    model = made(server)
    asked = request("ok", model, kind="generate", source=None)
    model.generate([asked])
    reference = np.full((8, 8, 3), 7, np.uint8)
    model.generate([request("ok", model, kind="compose", source=None, references=(reference, reference))])
    assert [post[0] for post in server.posts] == ["/v1/images/generations", "/v1/images/edits"]
    assert "Authorization" not in server.posts[0][1]
    assert "image[]" in server.posts[1][2]


def test_key_does_not_travel_to_where_the_image_is(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QK_BENCH_API_KEY", KEY)
    model = made(server)
    model.generate([request("url", model)])
    assert len(server.gets) == 1
    assert not any(KEY in value for value in server.gets[0].values())


def test_rate_is_kept(server: Server) -> None:
    model = made(server, requests_per_minute=300)
    for _ in range(3):
        model.generate([request("ok", model)])
    times = [post[3] for post in server.posts]
    assert all(after - before >= 0.19 for before, after in itertools.pairwise(times))


def test_backoff_doubles(server: Server) -> None:
    model = made(server, backoff=0.2, max_retries=2)
    begun = time.monotonic()
    model.generate([request("500", model)])
    assert time.monotonic() - begun >= 0.2 + 0.4


def test_run_records_calls_cost_and_that_the_model_is_unseeded(server: Server, tmp_path: Path) -> None:
    words = ["run", "--task", f"{SQUARES}/recolour", "--model", f"api:{server.url}#painter", "--limit", "3", "--metric",
             "success", "--no-page", "--out", tmp_path / "run"]  # fmt: skip
    for pair in ("usd_per_image=0.04", "usd_per_million_output_tokens=5", "size=64x64"):
        words += ["--model-arg", pair]
    done = qkbench(*words)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    used = {"calls": 3, "images": 3, "input_tokens": 30, "output_tokens": 300, "retries": 0, "usd": 0.1215}
    assert manifest["sessions"][0]["usage"] == {"api:painter": used}
    (model,) = manifest["spec"]["models"]
    assert (model["card"]["unseeded"], model["card"]["deterministic"]) == (True, False)
    assert "api:painter (unseeded)" in done.stdout


def test_image_of_another_size_is_recorded(server: Server, tmp_path: Path) -> None:
    suite = tmp_path / "wrong.py"
    text = Path(SQUARES.partition(":")[0]).read_text()
    suite.write_text(text.replace('f"make the square {after}" if', '"wrongsize" if'))
    run_spec(make_spec(f"api:{server.url}#painter", task=f"{suite}:SUITE/recolour", limit=1), tmp_path / "run")
    (line,) = outcomes(tmp_path / "run")
    assert (line["status"], line["width"], line["height"]) == ("ok", 32, 16)
    assert line["detail"] == "returned at 32x16, resampled to 64x64 for metrics"


def test_dead_server_is_a_named_failure(tmp_path: Path) -> None:
    model = load_model("api:http://127.0.0.1:9#painter", {**QUICK, "max_retries": 1})
    model.setup()
    (output,) = model.generate([request("ok", model)])
    assert isinstance(output, Failure)
    assert (output.status, output.detail) == ("model_error", "no connection: NewConnectionError; tried 2 times")


@pytest.mark.parametrize(
    ("endpoint", "arguments", "said"),
    [
        ("http://127.0.0.1/v1", {}, "is not URL#MODEL"),
        ("ftp://127.0.0.1/v1#m", {}, "is not URL#MODEL"),
        ("https://me:key@example.com/v1#m", {}, "holds a user or a query"),
        ("https://example.com/v1?api_key=1#m", {}, "holds a user or a query"),
        ("https://example.com/v1#m", {"api_key": "sk-1"}, "api_key is not taken on the command line"),
        ("https://example.com/v1#m", {"prompt": "x"}, "prompt comes from the request"),
        ("https://example.com/v1#m", {"max_retries": -1}, "max_retries=-1"),
        ("http://example.com/v1#m", {}, "would travel unencrypted"),
    ],
)
def test_mistake_is_one_line(
    endpoint: str, arguments: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QK_BENCH_API_KEY", KEY)
    with pytest.raises(UsageError, match=said) as error:
        load_model(f"api:{endpoint}", arguments)
    assert KEY not in str(error.value)
