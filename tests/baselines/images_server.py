"""A real HTTP server that speaks the OpenAI images protocol, and misbehaves where the prompt of a request says so.

A prompt holds the faults, in order, of the first tries of that request: `429 500 ok`. The last one stays.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

KEY = "sk-secret-of-the-test"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self.server.gets.append(dict(self.headers))
        self.answer(200, picture("green", (64, 64)), "image/png")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fields = form(self.headers["Content-Type"], body)
        with self.server.lock:
            tries = self.server.tries[fields["prompt"]]
            self.server.tries[fields["prompt"]] += 1
            self.server.posts.append((self.path, dict(self.headers), fields, time.monotonic()))
        faults = fields["prompt"].split()
        self.act(faults[min(tries, len(faults) - 1)], fields)

    def act(self, fault: str, fields: dict[str, Any]) -> None:
        errors = {
            "429": (429, {"code": "rate_limit_exceeded", "message": "slow down"}),
            "500": (500, {"message": "oops"}),
            "400": (400, {"code": "invalid_size", "message": f"no such size for {KEY}"}),
            "401": (401, {"code": "invalid_api_key", "message": f"Incorrect API key provided: {KEY}"}),
            "quota": (429, {"code": "insufficient_quota", "message": "pay"}),
            "refusal": (400, {"code": "moderation_blocked", "message": "rejected by the safety system"}),
            "policy": (403, {"type": "image_error", "message": "This violates our content_policy."}),
        }
        if fault in errors:
            status, error = errors[fault]
            return self.json(status, {"error": error}, {"Retry-After": "0"})
        if fault == "hang":
            time.sleep(4)
            return None
        if fault == "drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(40):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
            return None
        if fault == "hangup":
            self.close_connection = True
            return None
        if fault == "redirect":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if fault == "html":
            return self.answer(200, b"<html>busy</html>", "text/html")
        if fault == "flood":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(4):
                    self.wfile.write(b" " * (1 << 20))
            self.close_connection = True
            return None
        here = f"http://127.0.0.1:{self.server.server_port}/made.png"
        data: dict[str, Any] = {
            "empty": [], "junk": [{"b64_json": base64.b64encode(b"not an image").decode()}],
            "letters": [{"b64_json": "***"}], "url": [{"url": here}], "elsewhere": [{"url": "ftp://127.0.0.1/x"}],
            "wrongsize": [{"b64_json": encoded("blue", (32, 16))}], "rgba": [{"b64_json": encoded((9, 9, 9, 255), (64, 64))}],
            "clear": [{"b64_json": encoded((9, 9, 9, 0), (64, 64))}],
        }.get(fault, [{"b64_json": encoded("red", (64, 64))}])  # fmt: skip
        return self.json(200, {"created": 0, "data": data, "usage": {"input_tokens": 10, "output_tokens": 100}})

    def json(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self.answer(status, json.dumps(content).encode(), "application/json", headers)

    def answer(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.tries = threading.Lock(), Counter[str]()
        self.posts: list[tuple[str, dict[str, str], dict[str, Any], float]] = []
        self.gets: list[dict[str, str]] = []

    def handle_error(self, *_: Any) -> None: ...  # clients that leave are what this server is for

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def form(kind: str, body: bytes) -> dict[str, Any]:
    """Fields of a JSON or multipart body; files as bytes."""
    if kind == "application/json":
        found: dict[str, Any] = json.loads(body)
        return found
    message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    fields: dict[str, Any] = {}
    for part in message.get_payload():  # type: ignore[union-attr]
        name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
        data = part.get_payload(decode=True)  # type: ignore[union-attr]
        fields[str(name)] = data if part.get_filename() else data.decode()  # type: ignore[union-attr]
    return fields


def picture(colour: Any, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGBA" if isinstance(colour, tuple) and len(colour) == 4 else "RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def encoded(colour: Any, size: tuple[int, int]) -> str:
    return base64.b64encode(picture(colour, size)).decode()
