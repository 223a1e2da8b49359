"""`--model unified-a`, or `unified-a:FOLDER`; the network and its design are in `trained/unified_a.py`."""

from __future__ import annotations

from typing import Any

from qk_baselines.checkpoint import TrainedBaseline


class UnifiedA(TrainedBaseline):
    """An assembled unified model: VLM hidden states condition an MMDiT, source latents as tokens."""

    name = "unified-a"
    kinds = ("edit", "generate", "compose")
    description = "Unified baseline without kontext queries and gate."

    def _shared(self, config: dict[str, Any]) -> dict[str, Any]:
        """Its config is Query-Kontext's, with kontext and gate switched off."""
        if config["kontext"]["enabled"] or config["gate"]["enabled"]:
            raise KeyError("a Query-Kontext model")
        return config
