"""`--model blip3o`, or `blip3o:FOLDER`; the network and its design are in `trained/blip3o.py`."""

from __future__ import annotations

from qk_baselines.checkpoint import TrainedBaseline


class Blip3o(TrainedBaseline):
    """The BLIP3-o design at micro scale: queries, a flow over semantic features, a decoder to pixels."""

    name = "blip3o"
    kinds = ("edit", "generate")
    description = "BLIP3-o's design, trained here."
