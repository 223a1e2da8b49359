"""Image files that are not 8-bit RGB, each in its own way."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from qk_bench.images import MAX_PIXELS, encode_png


def picture(width: int = 8, height: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """A file of each kind that is not accepted, and what is said of it."""
    rgb = Image.fromarray(picture(32, 32))
    made: dict[str, tuple[Path, str]] = {}

    def put(name: str, said: str, suffix: str = "png") -> Path:
        made[name] = (folder / f"{name.replace(' ', '-')}.{suffix}", said)
        return made[name][0]

    put("corrupt", "not a readable PNG").write_bytes(b"this is no image")
    put("empty", "not a readable PNG").write_bytes(b"")
    whole = encode_png(picture(32, 32))
    put("truncated", "corrupt or truncated image").write_bytes(whole[: len(whole) // 2])
    put("bit rot", "corrupt or truncated image").write_bytes(whole[:300] + b"\xff\x00" * 20 + whole[340:])
    rgb.save(put("truncated jpeg", "corrupt or truncated image", "jpg"))
    path = made["truncated jpeg"][0]
    path.write_bytes(path.read_bytes()[:-200])
    put("bomb", f"more than {MAX_PIXELS}").write_bytes(bomb())
    Image.new("I;16", (8, 8)).save(put("grey 16 bit", "16-bit image"))
    put("rgb 16 bit", "16-bit image").write_bytes(deep())
    rgb.convert("CMYK").save(put("cmyk", "image of mode CMYK, expected RGB", "jpg"))
    rgb.convert("P").save(put("palette", "image of mode P, expected RGB"))
    rgb.convert("L").save(put("grey", "image of mode L, expected RGB"))
    rgb.convert("RGBA").save(put("alpha", "image of mode RGBA, expected RGB"))
    rgb.save(put("transparent colour", "transparent colour"), transparency=(1, 2, 3))
    rgb.save(put("animated", "animated image of 2 frames"), save_all=True, append_images=[rgb.rotate(90)])
    rgb.save(put("animated webp", "animated image of 2 frames", "webp"), save_all=True, append_images=[rgb.rotate(90)])
    turned = Image.Exif()
    turned[0x0112] = 6
    rgb.save(put("turned", "EXIF (orientation 6) says to turn", "jpg"), exif=turned)
    rgb.save(put("other format", "not a readable PNG"), format="BMP")
    return made


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few kilobytes."""
    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = zlib.compress(bytes(10_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def deep() -> bytes:
    """A 16-bit RGB PNG, which Pillow opens as if it had 8 bits."""
    header = (4).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    body = zlib.compress((b"\0" + bytes(24)) * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
