"""What the adapters of the trained baselines share: a checkpoint folder, its card, requests to images.

Imports nothing heavy: a card is made from the folder's files without loading weights.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.interfaces import Failure, Model
from qk_bench.records import Kind, ModelCard, Request

CHECKPOINTS = Path(__file__).parent / "checkpoints"
BATCH = 32


class TrainedBaseline(Model):
    """A baseline trained here.

    Args:
        folder: A model folder that `qkbench train` wrote; the shipped checkpoint by default.
        num_inference_steps: Of each of the model's flows, instead of its own.
        batch_size: The fixed batch shape.
    """

    name: ClassVar[str]
    kinds: ClassVar[tuple[Kind, ...]] = ("edit",)
    description: ClassVar[str]

    def __init__(self, folder: str = "", *, num_inference_steps: int | None = None, batch_size: int = BATCH) -> None:
        self.folder = Path(folder) if folder else CHECKPOINTS / self.name
        shared = self._shared(self._config())
        for key, value in (("num_inference_steps", num_inference_steps), ("batch_size", batch_size)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"{self.name}: {key} must be a whole number of at least 1, not {value!r}")
        self.steps: int = num_inference_steps or shared["flow"]["num_inference_steps"]
        from qk_model.digest import weights_digest

        self.card = ModelCard(
            name=f"{self.name}:{folder}" if folder else self.name,
            version="1",
            weights=weights_digest(self.folder),
            arguments={"num_inference_steps": self.steps},
            description=f"{self.description} Preset {shared['preset']}.",
            kinds=self.kinds,
            batch_size=batch_size,
            parameters=self._parameters(),
        )

    def setup(self) -> None:
        """Load the weights."""
        import torch

        from qk_baselines.trained.recipe import load_network

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = load_network(self.name, self.folder).to(self.device)

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """An image, or the stage that failed, for each request."""
        import torch
        from qk_model.infer import Job

        from qk_baselines.trained.recipe import answers

        jobs = [
            Job(r.instruction, r.width, r.height, r.seed, r.source if r.kind == "edit" else None, r.references)
            for r in requests
        ]
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16):
            return answers(self.network, jobs, steps=self.steps)

    def _shared(self, config: dict[str, Any]) -> dict[str, Any]:
        """Of a config, what the model shares with Query-Kontext.

        Raises:
            KeyError: It is the config of another model.
        """
        if config["model"] != self.name:
            raise KeyError("model")
        shared: dict[str, Any] = config["shared"]
        return shared

    def _config(self) -> dict[str, Any]:
        path = self.folder / "config.json"
        mend = f"run `qkbench train {self.name} --out DIR`, then name {self.name}:DIR/model"
        try:
            config: dict[str, Any] = json.loads(path.read_text("utf-8"))
            shared = self._shared(config)
            if not isinstance(shared["flow"]["num_inference_steps"], int):
                raise ValueError("num_inference_steps")
            str(shared["preset"])
        except FileNotFoundError:
            shipped = self.folder.parent == CHECKPOINTS
            what = "no checkpoint ships with this installation" if shipped else f"there is no {path}"
            raise UsageError(f"{self.name}: {what}", mend) from None
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(f"{self.name}: {path} is not the config of a {self.name} model", mend) from None
        return config

    def _parameters(self) -> int | None:
        """Parameters in use, from the training record, if there is one."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            record = json.loads((self.folder / "training.json").read_text("utf-8"))
            return int(sum(record["parameters"].values()))
        return None
