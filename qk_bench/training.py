"""What a model that can be trained here offers the command line (entry point group `qk_bench.trainers`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table to print: cells are text, ready to be read."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Trainer(ABC):
    """Trains one model in one or more presets (sizes) and stages."""

    presets: tuple[str, ...]

    @abstractmethod
    def train(
        self, preset: str, *, stage: str, max_steps: int | None, out: Path, overrides: Mapping[str, Any]
    ) -> Path | None:
        """Train, or go on with, a stage or all of them.

        Args:
            preset: One of `presets`.
            stage: A stage of the preset, or `all`.
            max_steps: At most this many steps of each stage; None is as many as the preset says.
            out: Folder of the training.
            overrides: Values of the preset to change, by dotted path.

        Returns:
            The folder of the trained model, once there is one.
        """

    @abstractmethod
    def tables(self, preset: str) -> list[Table]:
        """What a preset consists of and costs: parameters, memory, tokens."""
