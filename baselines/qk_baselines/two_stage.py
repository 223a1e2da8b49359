"""`--model two-stage`, or `two-stage:FOLDER`; the networks and their design are in `trained/two_stage.py`."""

from __future__ import annotations

from qk_baselines.checkpoint import TrainedBaseline


class TwoStage(TrainedBaseline):
    """Two stages with a real junction: ground the instruction to region and sentence, then inpaint."""

    name = "two-stage"
    description = "Grounding, then inpainting, as two models."
