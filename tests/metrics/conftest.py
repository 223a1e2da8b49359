"""Fixtures of the metrics' tests."""

from __future__ import annotations

import pytest

from qk_bench import weights


@pytest.fixture(scope="session")
def pinned_weights() -> None:
    """The real weights, fetched once per machine."""
    for name in weights.select(["metrics"]):
        weights.pull(name)


@pytest.fixture(scope="session")
def face_weights() -> None:
    """Dlib's weights, fetched once per machine."""
    pytest.importorskip("dlib", reason="the extra `faces` is not installed")
    for name in weights.select(["faces"]):
        weights.pull(name)
