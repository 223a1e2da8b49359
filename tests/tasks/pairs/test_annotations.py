"""Photographs named by strangers: no name leads out of the folder, none is decoded unmeasured, all can be printed."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import ImageFile
from qk_tasks.pairs import coco
from qk_tasks.pairs.annotations import Entry, Problem, inside, read_photo

from qk_bench.images import ImageProblemError

from . import coco_folder


def test_what_the_user_has_linked_is_read_but_no_name_leads_out(tmp_path: Path) -> None:
    folder = coco_folder.make(tmp_path / "coco", 3, 160, 120)
    (folder / "val2017").rename(tmp_path / "elsewhere")
    (folder / "val2017").symlink_to(tmp_path / "elsewhere")
    first, second, third = coco.read(folder).entries
    assert read_photo(first).shape == (120, 160, 3)
    second.path.unlink()
    second.path.symlink_to(second.path.name)  # round in a circle
    third.path.unlink()
    third.path.mkdir()
    for entry in coco.read(folder).entries[1:]:
        with pytest.raises(ImageProblemError, match="there is no such image"):
            read_photo(entry)
    for name in ("/etc/passwd", "../secret", "val2017/../../secret", "a\0b", "", "a/" * 501, "half \ud800", None):
        assert inside(folder, name) is None, name
    assert inside(folder, "val2017/../annotations") == folder / "annotations"  # not beside what val2017 links to


def test_a_photograph_is_measured_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 12000, 8000, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\1IDATx"
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    decoded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded.append)
    with (
        warnings.catch_warnings(record=True) as warned,
        pytest.raises(ImageProblemError, match="12000x8000 pixels, more than"),
    ):
        read_photo(Entry("1", tmp_path / "bomb.png", "bomb.png", None, "", ""))
    assert not decoded and not warned


def test_problems_can_be_printed() -> None:
    problem = Problem("val/\x1b[31mred\x07\n\u202eé.jpg", "image \ud800", "what")
    assert str(problem) == r"val/\x1b[31mred\x07\n\u202eé.jpg: image \ud800: what"
