"""What `qkbench train query-kontext` and `qkbench show query-kontext` call. Imports nothing heavy until it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qk_bench.errors import UsageError
from qk_bench.training import Table, Trainer
from qk_model.config import PRESETS


class QueryKontextTrainer(Trainer):
    """Trains Query-Kontext."""

    presets = PRESETS

    def train(
        self, preset: str, *, stage: str, max_steps: int | None, out: Path, overrides: Mapping[str, Any]
    ) -> Path | None:
        """Train a stage or all of them; see `qk_model.train`."""
        need_libraries()
        from qk_model.train import Options, train

        return train(Options(preset, out, stage, max_steps, dict(overrides)))

    def tables(self, preset: str) -> list[Table]:
        """Parts, memory and tokens of a preset."""
        need_libraries()
        from qk_model.parameters import tables

        return tables(preset)


def need_libraries(who: str = "query-kontext") -> None:
    """Say in one line what to install.

    Raises:
        UsageError: A library of the extra `model` is missing.
    """
    import importlib.util

    wanted = ("torch", "transformers", "diffusers", "peft", "accelerate", "safetensors", "tokenizers", "tensorboard")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{who} needs {', '.join(missing)}", "pip install 'qk-bench[model]'")
