"""One call of an OpenAI-compatible images API: sent, tried again, bounded, and its answer named for what it is."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UnusableModelError, UsageError, folded
from qk_bench.images import ImageProblemError, read_pixels
from qk_bench.interfaces import Failure

MAX_BODY: Final = 64 << 20
"""Bytes of an answer that are read at most; base64 of a large lossless image is about 30 MB."""
AGAIN: Final = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
"""HTTP statuses after which the same request may succeed."""
MAX_WAIT: Final = 60.0
"""Seconds waited at most before one more try, whatever the server asks for."""
LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_REFUSAL: Final = re.compile(
    r"moderation|content[_ ]policy|content[_ ]filter|safety[_ ]system|policy[_ ]violation|responsible[_ ]?ai",
    re.IGNORECASE,
)
_NO_CREDIT: Final = frozenset(("insufficient_quota", "billing_hard_limit_reached", "invalid_api_key"))


@dataclass(frozen=True)
class Limits:
    """How patient a client is.

    Args:
        timeout: Seconds for one try, from connecting to the last byte.
        max_retries: Tries after the first.
        backoff: Seconds before the second try; twice as many before each further one.
        requests_per_minute: How often the server may be called; 0 for no limit.
    """

    timeout: float = 180.0
    max_retries: int = 4
    backoff: float = 1.0
    requests_per_minute: float = 0.0

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: A limit is not a number that makes sense.
        """
        for name, low in (("timeout", 1e-3), ("max_retries", 0), ("backoff", 0), ("requests_per_minute", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value < float("inf"):
                raise UsageError(f"api: {name}={value!r}", f"a number of at least {low:g}")


@dataclass
class Client:
    """Talks to one endpoint.

    Args:
        url: The base, such as `https://api.example.com/v1`.
        key: Sent as bearer token; empty for none.
        limits: How patient it is.
    """

    url: str
    key: str
    limits: Limits
    used: Counter[str] = field(default_factory=Counter)
    _last: float = -float("inf")

    def __post_init__(self) -> None:
        """Open no connection yet, only the pool they will come from."""
        import urllib3

        self._http = urllib3.PoolManager(retries=False)

    def call(self, path: str, body: bytes, content_type: str) -> dict[str, Any] | Failure:
        """POST to `url/path` until there is an answer that another try would not change.

        Raises:
            UnusableModelError: The key is refused or the credit used up: no request can succeed.
        """
        failure = Failure("model_error", "not tried")
        for attempt in range(int(self.limits.max_retries) + 1):
            self._wait_for_turn()
            self.used["calls"] += 1
            self.used["retries"] += attempt > 0
            found, again = self._once(path, body, content_type)
            if not isinstance(found, Failure):
                return found
            failure = found
            if again is None:
                return failure
            if attempt < self.limits.max_retries:
                time.sleep(min(MAX_WAIT, max(again, self.limits.backoff * 2**attempt)))
        tries = int(self.limits.max_retries) + 1
        return Failure(failure.status, f"{failure.detail}; tried {tries} times" if tries > 1 else failure.detail)

    def fetch(self, url: str) -> bytes | Failure:
        """GET an image that an answer points to. The key stays here, and no redirect is followed."""
        import urllib3

        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            return Failure("invalid_output", "the answer points to an image that is not at an https address")
        if parts.hostname in LOOPBACK and urlsplit(self.url).hostname not in LOOPBACK:
            return Failure("invalid_output", "the answer points to an image on this machine")
        deadline = time.monotonic() + self.limits.timeout
        try:
            answer = self._http.request("GET", url, preload_content=False, redirect=False, timeout=self.limits.timeout)
            if answer.status != 200:
                answer.release_conn()
                return Failure("model_error", f"the image of the answer cannot be fetched: HTTP {answer.status}")
            return _read(answer, deadline)
        except (TimeoutError, urllib3.exceptions.ReadTimeoutError):
            return Failure("timeout", f"the image of the answer did not come within {self.limits.timeout:g} s")
        except urllib3.exceptions.HTTPError as error:
            return Failure("model_error", folded(f"the image of the answer cannot be fetched: {type(error).__name__}"))

    def _wait_for_turn(self) -> None:
        if self.limits.requests_per_minute:
            time.sleep(max(0.0, self._last + 60 / self.limits.requests_per_minute - time.monotonic()))
        self._last = time.monotonic()

    def _once(self, path: str, body: bytes, content_type: str) -> tuple[dict[str, Any] | Failure, float | None]:
        """One try: the answer, or a failure and the seconds the server wants us to wait before another try, if any."""
        import urllib3

        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        deadline = time.monotonic() + self.limits.timeout
        try:
            answer = self._http.request(
                "POST", f"{self.url}/{path}", body=body, headers=headers, preload_content=False, redirect=False,
                timeout=urllib3.Timeout(total=self.limits.timeout),
            )  # fmt: skip
            data = _read(answer, deadline)
        except urllib3.exceptions.NewConnectionError as error:  # which urllib3 counts among its time-outs
            return Failure("model_error", folded(f"no connection: {type(error).__name__}")), 0.0
        except (TimeoutError, urllib3.exceptions.TimeoutError):
            return Failure("timeout", f"no answer within {self.limits.timeout:g} s"), 0.0
        except urllib3.exceptions.HTTPError as error:
            return Failure("model_error", folded(f"no connection: {type(error).__name__}")), 0.0
        except ValueError as error:  # of a header, which its text would quote, key and all
            return Failure("model_error", f"the request cannot be sent: {type(error).__name__}"), None
        if isinstance(data, Failure):
            return data, None
        if answer.status == 200:
            return _parsed(data), None
        return self._failed(answer.status, answer.headers, data)

    def _failed(self, status: int, headers: Mapping[str, str], data: bytes) -> tuple[Failure, float | None]:
        code, message = _error(data)
        said = folded(self._hide(f"HTTP {status}: {message or code or 'no reason given'}"))
        if status < 500 and (_REFUSAL.search(code) or (status in (400, 403, 422, 451) and _REFUSAL.search(message))):
            return Failure("refused", said), None
        if status in (401, 402, 403) or code in _NO_CREDIT:
            raise UnusableModelError(f"{self.url} does not let us in: {said}", "check the key in the environment")
        if status in AGAIN:
            return Failure("model_error", said), _retry_after(headers.get("Retry-After", ""))
        return Failure("model_error", said), None

    def _hide(self, text: str) -> str:
        return text.replace(self.key, "[key]") if self.key else text


def _read(answer: Any, deadline: float) -> bytes | Failure:
    """The body, within its limits of size and time: a server may also drip.

    Raises:
        TimeoutError: It took too long.
    """
    data = bytearray()
    try:
        while part := answer.read1(1 << 16):
            data += part
            if len(data) > MAX_BODY:
                answer.close()
                return Failure("invalid_output", f"an answer of more than {MAX_BODY} bytes")
            if time.monotonic() > deadline:
                answer.close()
                raise TimeoutError
    finally:
        answer.release_conn()
    return bytes(data)


def _parsed(data: bytes) -> dict[str, Any] | Failure:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return Failure("invalid_output", "the answer is not JSON")
    return found if isinstance(found, dict) else Failure("invalid_output", "the answer is not a JSON object")


def _error(data: bytes) -> tuple[str, str]:
    """Code and message of an error answer, as far as it has any."""
    found = _parsed(data)
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, str):
        return "", error
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("code") or error.get("type") or ""), str(error.get("message") or "")


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header; dates are left to the backoff."""
    return min(MAX_WAIT, float(text)) if re.fullmatch(r"\d{1,6}(\.\d+)?", text) else 0.0


def image_of(answer: Mapping[str, Any], client: Client) -> NDArray[np.uint8] | Failure:
    """The one image of an answer: base64, or an address to fetch it from."""
    data = answer.get("data")
    first = data[0] if isinstance(data, Sequence) and not isinstance(data, str) and data else None
    if not isinstance(first, Mapping):
        return Failure("invalid_output", "the answer holds no image")
    if isinstance(first.get("b64_json"), str):
        try:
            raw: bytes | Failure = base64.b64decode(first["b64_json"], validate=True)
        except (binascii.Error, ValueError):
            return Failure("invalid_output", "the image of the answer is not base64")
    elif isinstance(first.get("url"), str):
        raw = client.fetch(first["url"])
    else:
        return Failure("invalid_output", "the answer holds neither b64_json nor url")
    if isinstance(raw, Failure):
        return raw
    try:
        return decode(raw)
    except ImageProblemError as problem:
        return Failure("invalid_output", str(problem))


def decode(raw: bytes) -> NDArray[np.uint8]:
    """Pixels of an image file in memory; hosted models return RGBA PNG, whose alpha is dropped where it is opaque.

    Raises:
        ImageProblemError: It is no image that we accept.
    """
    import tempfile
    from pathlib import Path

    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="qk-bench-api-") as folder:
        path = Path(folder) / "image"
        path.write_bytes(raw)
        try:
            return read_pixels(path)
        except ImageProblemError as problem:
            if "mode RGBA" not in str(problem):
                raise
        with Image.open(io.BytesIO(raw), formats=("PNG", "WEBP")) as image:
            try:
                pixels = np.asarray(image)
            except Exception as error:
                raise ImageProblemError("corrupt or truncated image") from error
        if (pixels[..., 3] != 255).any():
            raise ImageProblemError("image with transparency, expected an opaque one")
        return np.ascontiguousarray(pixels[..., :3])
