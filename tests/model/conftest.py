"""Presets small enough for tests, of the lean blocks and of the library classes."""

from __future__ import annotations

import pytest
import torch
from qk_model.config import Preset, load_preset
from tiny_presets import LEAN, LIBRARY


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tests share the machine."""
    torch.set_num_threads(1)


@pytest.fixture
def lean() -> Preset:
    """The micro preset, shrunk."""
    return load_preset("micro", LEAN)


@pytest.fixture
def library() -> Preset:
    """A preset of the classes that base and paper are made of, shrunk."""
    return load_preset("micro", LIBRARY)


@pytest.fixture(params=["lean", "library"])
def preset(request: pytest.FixtureRequest) -> Preset:
    """Both."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]
