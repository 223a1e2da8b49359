"""`--model two-stage-generate`, or `two-stage-generate:FOLDER`; its design is in `trained/two_stage_generate.py`."""

from __future__ import annotations

from qk_baselines.checkpoint import TrainedBaseline


class TwoStageGenerate(TrainedBaseline):
    """Separate generation, then edit: describe the target, draw it, bring it into the source."""

    name = "two-stage-generate"
    kinds = ("edit", "generate")
    description = "Generation from the target's caption, then editing, as two models."
