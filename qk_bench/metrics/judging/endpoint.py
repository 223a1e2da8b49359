"""An OpenAI-compatible chat endpoint that is shown pictures, and where it is configured: the environment.

| variable | meaning |
|---|---|
| `QKBENCH_JUDGE_URL` | base address, such as `http://localhost:8000/v1` |
| `QKBENCH_JUDGE_MODEL` | the model's snapshot; an alias that the endpoint resolves to another name is refused |
| `QKBENCH_JUDGE_KEY` | key, if the endpoint wants one; it is never written anywhere |
| `QKBENCH_JUDGE_TEMPERATURE` | 0 if not given |
| `QKBENCH_JUDGE_REPEATS` | how often each question is asked, 3 if not given |
| `QKBENCH_JUDGE_PARALLEL` | questions at a time, 4 if not given; changes no score |
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.images import encode_png

TIMEOUT: Final = 120.0
ATTEMPTS: Final = 4
MAX_ANSWER: Final = 2**20
MAX_TOKENS: Final = 800
RETRIED: Final = (408, 409, 429, 500, 502, 503, 504)
PREFIX: Final = "QKBENCH_JUDGE_"


class JudgeError(Exception):
    """Why there is no answer, as one line; never holds the key."""


@dataclass(frozen=True)
class Endpoint:
    """Where the judge is, and how it is asked."""

    url: str
    model: str
    temperature: float
    repeats: int
    parallel: int
    key: str = ""

    def __repr__(self) -> str:
        """Without the key."""
        return f"Endpoint({self.url}, {self.model}, temperature={self.temperature:g}, repeats={self.repeats})"

    def ask(self, prompt: str, images: Sequence[NDArray[np.uint8]], seed: int) -> str:
        """The judge's answer to a question about pictures.

        Args:
            prompt: The question.
            images: (H, W, 3) uint8 each, in the order the question speaks of them.
            seed: Sent along, so that repeats differ where the endpoint samples; endpoints may ignore it.

        Raises:
            JudgeError: No answer after several attempts, or an answer of another shape or of another model.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        for image in images:
            data = base64.b64encode(encode_png(image)).decode()
            content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.temperature,
            "max_tokens": MAX_TOKENS,
            "seed": seed,
        }
        answer = self._post(json.dumps(body).encode())
        served = answer.get("model")
        if isinstance(served, str) and served and served != self.model:
            raise JudgeError(f"the endpoint answered as {served[:80]!r}: name that snapshot in {PREFIX}MODEL")
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise JudgeError("the answer has no choices[0].message.content") from None
        if not isinstance(text, str):
            raise JudgeError("the answer's content is not a text")
        return text

    def _post(self, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(8.0, 0.5 * 2**attempt))
            request = urllib.request.Request(f"{self.url}/chat/completions", body, headers)
            try:
                with _OPENER.open(request, timeout=TIMEOUT) as response:
                    data = response.read(MAX_ANSWER + 1)
            except urllib.error.HTTPError as error:
                why = f"the endpoint says {error.code}"
                if error.code not in RETRIED:
                    break
                continue
            except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
                why = f"the endpoint cannot be reached ({type(error).__name__})"
                continue
            if len(data) > MAX_ANSWER:
                raise JudgeError(f"an answer of more than {MAX_ANSWER >> 20} MB")
            try:
                answer = json.loads(data)
            except (ValueError, RecursionError):
                raise JudgeError("the endpoint's answer is not JSON") from None
            if not isinstance(answer, dict):
                raise JudgeError("the endpoint's answer is not an object")
            return answer
        raise JudgeError(why)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key and the pictures elsewhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def configured() -> Endpoint | None:
    """The endpoint that the environment names; None where it names none.

    Raises:
        UsageError: A variable has no sensible value.
    """
    url, model = (os.environ.get(f"{PREFIX}{name}", "").strip() for name in ("URL", "MODEL"))
    if not url or not model:
        return None
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{PREFIX}URL must begin with http:// or https://", "such as http://localhost:8000/v1")
    return Endpoint(
        url.rstrip("/"),
        model,
        temperature=_number("TEMPERATURE", 0.0, 0.0, 2.0),
        repeats=int(_number("REPEATS", 3, 1, 32)),
        parallel=int(_number("PARALLEL", 4, 1, 64)),
        key=os.environ.get(f"{PREFIX}KEY", "").strip(),
    )


def _number(name: str, default: float, low: float, high: float) -> float:
    text = os.environ.get(f"{PREFIX}{name}", "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UsageError(f"{PREFIX}{name}={text} is not a number from {low:g} to {high:g}")
    return value
