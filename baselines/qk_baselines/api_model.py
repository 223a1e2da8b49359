"""A hosted model behind an OpenAI-compatible images API: `api:URL#MODEL`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from qk_baselines.api_client import LOOPBACK, Client, Limits, image_of
from qk_bench.errors import UsageError
from qk_bench.images import encode_mask_png, encode_png
from qk_bench.interfaces import Failure, Model
from qk_bench.records import Kind, ModelCard, Request

KEY_VARIABLE: Final = "QK_BENCH_API_KEY"
_TOKENS: Final = ("input_tokens", "output_tokens")
_KEY: Final = re.compile(r"[!-~]*")
"""What can be sent as a key: letters, digits and signs of ASCII."""
_SECRET: Final = re.compile(r"key|token|secret|authorization|password", re.IGNORECASE)
_OURS: Final = frozenset(("model", "prompt", "image", "image[]", "mask", "n", "stream"))


class ApiModel(Model):
    """A hosted image model: edits by `images/edits`, draws by `images/generations`; calls and cost are counted.

    It is unseeded unless told otherwise: the same request gives another image each time, and it is marked so.

    Args:
        endpoint: `URL#MODEL`, such as `https://api.openai.com/v1#gpt-image-2`.
        key_env: The environment variable that holds the key. The key itself is never an argument.
        kinds: What it does: `edit`, `generate`, `compose`.
        name: What to call it in results.
        timeout: Seconds for one try.
        max_retries: Tries after the first, for 429, 5xx, timeouts and lost connections.
        backoff: Seconds before the second try; doubled each time, at most 60. `Retry-After` is honoured.
        requests_per_minute: How often to call at most; 0 for no limit.
        seed_field: The field that takes the seed (modulo 2^31), for servers that have one; the model then is seeded.
        uses_region: Whether it is given the region query, as the API's mask (transparent where it may paint).
        usd_per_image: Price of an answered call.
        usd_per_million_input_tokens: Price of the tokens that answers report.
        usd_per_million_output_tokens: The same.
        arguments: Further fields of the request, such as `size=1024x1024` or `quality=high`.

    Raises:
        UsageError: The endpoint or an argument cannot be.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        key_env: str = KEY_VARIABLE,
        kinds: Sequence[Kind] | str = ("edit", "generate", "compose"),
        name: str = "",
        timeout: float = 180.0,
        max_retries: int = 4,
        backoff: float = 1.0,
        requests_per_minute: float = 0.0,
        seed_field: str = "",
        uses_region: bool = False,
        usd_per_image: float = 0.0,
        usd_per_million_input_tokens: float = 0.0,
        usd_per_million_output_tokens: float = 0.0,
        **arguments: Any,
    ) -> None:
        self.url, self.model = _endpoint(endpoint)
        self.limits = Limits(timeout, max_retries, backoff, requests_per_minute)
        self.limits.check()
        self.key_env, self.seed_field, self.arguments = key_env, seed_field, arguments
        self.prices = {
            "images": usd_per_image,
            "input_tokens": usd_per_million_input_tokens / 1e6,
            "output_tokens": usd_per_million_output_tokens / 1e6,
        }
        _check_arguments(arguments)
        kinds = tuple(kinds.split(",")) if isinstance(kinds, str) else tuple(kinds)  # type: ignore[arg-type]
        if not kinds or not set(kinds) <= set(get_args(Kind)):
            raise UsageError(f"api: kinds={','.join(map(str, kinds))!r}", f"some of {', '.join(get_args(Kind))}")
        if os.environ.get(key_env) and self.url.startswith("http://") and urlsplit(self.url).hostname not in LOOPBACK:
            raise UsageError(f"api: the key in {key_env} would travel unencrypted to {self.url}", "use https")
        self.card = ModelCard(
            name=name or f"api:{self.model}",
            version="1",
            arguments={"url": self.url, "model": self.model, "seed_field": seed_field, **arguments},
            description="A hosted model behind an OpenAI-compatible images API.",
            kinds=kinds,
            unseeded=not seed_field,
            uses_region=uses_region,
        )

    def setup(self) -> None:
        """Take the key from the environment; the endpoint is first spoken to by the first request.

        Raises:
            UsageError: What is there cannot be a key. It is not shown.
        """
        key = os.environ.get(self.key_env, "").strip()
        if not _KEY.fullmatch(key):
            raise UsageError(
                f"api: {self.key_env} holds a space, a line break or a sign outside ASCII within the key",
                "set it to the key alone",
            )
        self.client = Client(self.url, key, self.limits)

    def usage(self) -> Mapping[str, float]:
        """Calls, retries, answered images, tokens where answers tell them, and the cost at the prices given."""
        used = self.client.used
        cost = sum(used[what] * price for what, price in self.prices.items())
        return {**used, **({"usd": round(cost, 6)} if any(self.prices.values()) else {})}

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """An image for each request, or what the service did instead."""
        return [self._make(request) for request in requests]

    def _make(self, request: Request) -> NDArray[np.uint8] | Failure:
        fields: dict[str, Any] = {"model": self.model, "prompt": request.instruction, "n": 1, **self.arguments}
        if self.seed_field:
            fields[self.seed_field] = request.seed % 2**31
        images = ([] if request.source is None else [request.source]) + list(request.references)
        if images:
            body, content_type = self._form(fields, images, request)
            answer = self.client.call("images/edits", body, content_type)
        elif request.kind == "edit":
            return Failure("model_error", "no source image")
        else:
            answer = self.client.call("images/generations", json.dumps(fields).encode(), "application/json")
        if isinstance(answer, Failure):
            return answer
        self.client.used["images"] += 1
        usage = answer.get("usage")
        for what in _TOKENS:
            count = usage.get(what) if isinstance(usage, Mapping) else None
            if isinstance(count, int) and count > 0:
                self.client.used[what] += count
        return image_of(answer, self.client)

    def _form(
        self, fields: Mapping[str, Any], images: Sequence[NDArray[np.uint8]], request: Request
    ) -> tuple[bytes, str]:
        """Fields and images as a multipart form; its boundary is fixed by their content."""
        from urllib3.filepost import encode_multipart_formdata

        field = "image" if len(images) == 1 else "image[]"
        parts: list[Any] = [(name, _text(value)) for name, value in fields.items()]
        parts += [(field, (f"image-{place}.png", encode_png(image), "image/png")) for place, image in enumerate(images)]
        if request.region is not None:
            parts.append(("mask", ("mask.png", _mask(request), "image/png")))
        return encode_multipart_formdata(parts)


def _mask(request: Request) -> bytes:
    """The mask as the API wants it: an image of the source's size that is transparent where it may be painted."""
    import io

    from PIL import Image

    assert request.region is not None
    opaque = Image.open(io.BytesIO(encode_mask_png(~request.region.mask)))
    picture = Image.new("RGBA", opaque.size)
    picture.putalpha(opaque)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _endpoint(endpoint: str) -> tuple[str, str]:
    url, _, model = endpoint.partition("#")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not model:
        raise UsageError(f"api:{endpoint} is not URL#MODEL", "such as api:https://api.openai.com/v1#gpt-image-2")
    if parts.username is not None or parts.query:
        raise UsageError("api: the URL holds a user or a query", f"put the key into the variable {KEY_VARIABLE}")
    return url.rstrip("/"), model


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if _SECRET.search(name):
            raise UsageError(f"api: {name} is not taken on the command line", f"put the key into {KEY_VARIABLE}")
        if name in _OURS:
            raise UsageError(f"api: {name} comes from the request and cannot be given")
