"""Query-Kontext as qk-bench runs it: `--model query-kontext`, `query-kontext:micro-faces`, or `query-kontext:FOLDER`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.interfaces import Model
from qk_bench.records import ModelCard, Request

if TYPE_CHECKING:
    from qk_model.infer import Made

SHIPPED = {
    "": Path(__file__).parent / "checkpoints" / "micro",
    "micro-faces": Path(__file__).parent / "checkpoints" / "micro-faces",
}
"""The checkpoints that ship, by what follows `query-kontext:`."""
BATCH = 32
Form = Literal["none", "box", "mask", "point"]


class QueryKontextEditor(Model):
    """Query-Kontext: edits by instruction behind a Cross-Modal Gate; also text-to-image and reference-to-image.

    Args:
        folder: A model folder, or `micro-faces`; the shipped micro checkpoint by default.
        num_inference_steps: Instead of the model's own.
        guidance_scale: Instead of the model's own.
        region: `box`, `mask` or `point`: tell the model where, in that form; the card then declares `uses_region`.
        batch_size: The fixed batch shape.
    """

    def __init__(
        self,
        folder: str = "",
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        region: Form = "none",
        batch_size: int = BATCH,
    ) -> None:
        self.folder = SHIPPED.get(folder) or Path(folder)
        config = self._config()
        if region not in get_args(Form):
            raise UsageError(f"query-kontext: region={region!r}", f"one of: {', '.join(get_args(Form))}")
        if region != "none" and not config["region"]["enabled"]:
            raise UsageError(f"query-kontext: the model in {self.folder} was trained without region queries")
        if num_inference_steps is not None and num_inference_steps < 1:
            raise UsageError("query-kontext: num_inference_steps must be at least 1")
        self.region: Form = region
        self.steps = num_inference_steps or config["flow"]["num_inference_steps"]
        self.guidance_scale = config["flow"]["guidance_scale"] if guidance_scale is None else guidance_scale
        arguments: dict[str, Any] = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "region": region,
        }
        self.card = ModelCard(
            name=f"query-kontext:{folder}" if folder else "query-kontext",
            version="1",
            weights=self._digest(),
            arguments=arguments,
            description=f"Query-Kontext, preset {config['preset']}.",
            kinds=("edit", "generate", "compose"),
            batch_size=batch_size,
            uses_region=region != "none",
            parameters=self._parameters(),
        )

    def setup(self) -> None:
        """Load the weights."""
        import torch

        from qk_model.model import QueryKontext

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = QueryKontext.from_pretrained(self.folder).requires_grad_(False)
        if self.device.type != "cpu":
            model.lighten()
        self.model = model.to(self.device)

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8]]:
        """An image for each request."""
        return [made.image for made in self.make(requests)]

    def make(self, requests: Sequence[Request]) -> list[Made]:
        """An image for each request, with the map of the gate where the request has a source."""
        import torch

        from qk_model.infer import Job, make

        jobs = [
            Job(
                r.instruction, r.width, r.height, r.seed, r.source if r.kind == "edit" else None, r.references, r.region
            )
            for r in requests
        ]
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16):
            return make(
                self.model,
                jobs,
                region=self.region,
                steps=self.steps,
                guidance_scale=self.guidance_scale,
            )

    def _config(self) -> dict[str, Any]:
        path = self.folder / "config.json"
        mend = "run `qkbench train query-kontext --preset micro --out DIR`, then name query-kontext:DIR/model"
        try:
            config: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if not {"preset", "flow", "region"} <= set(config):
                raise ValueError("keys are missing")
        except FileNotFoundError:
            shipped = self.folder in SHIPPED.values()
            what = "no checkpoint ships with this installation" if shipped else f"there is no {path}"
            raise UsageError(f"query-kontext: {what}", mend) from None
        except (OSError, ValueError):
            raise UsageError(f"query-kontext: {path} is not the config of a Query-Kontext model", mend) from None
        return config

    def _digest(self) -> str:
        """The sha256 of the weights, computed from the files so that it cannot be out of date."""
        from qk_model.digest import weights_digest

        return weights_digest(self.folder)

    def _parameters(self) -> int | None:
        """Parameters in use, from the training record, if there is one."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads((self.folder / "training.json").read_text("utf-8"))
            return int(sum(record["parameters"].values()))
        return None
