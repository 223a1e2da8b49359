"""What each stage freezes, trains, adds and drops.

Paper: stage 1 trains the light head, the connector, the queries and a LoRA of the VLM; stage 2 merges that LoRA,
freezes the VLM, drops the head and trains queries, connector and the whole MMDiT; stage 3 adds the low-level encoder
and trains queries, connector and a LoRA of the MMDiT. The sheet's `trained` lists say so for each preset.
"""

from __future__ import annotations

from torch import nn

from qk_bench.errors import UsageError
from qk_model.config import Preset, Stage
from qk_model.mmdit import check_channels, make_mmdit
from qk_model.model import QueryKontext, make_reader

LORA = "_lora"


class Adapters:
    """The LoRA adapters of a stage, injected by peft; `merge` folds them into the weights they adapt."""

    def __init__(self) -> None:
        self._tuners: dict[str, nn.Module] = {}

    def add(self, model: QueryKontext, part: str, rank: int) -> None:
        """Adapt a part's linear layers in place; everything else of the part is frozen."""
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel

        module = getattr(model, part)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=module.lora_targets)
        self._tuners[part] = LoraModel(module, config, "default")  # type: ignore[no-untyped-call]

    def merge(self, model: QueryKontext) -> None:
        """Fold the adapters in and take them out."""
        for part, tuner in self._tuners.items():
            setattr(model, part, tuner.merge_and_unload())  # type: ignore[operator]
        self._tuners.clear()


def prepare(model: QueryKontext, preset: Preset, stage: Stage) -> Adapters:
    """Make a model ready for a stage: add what only this stage has, freeze everything, free what it trains.

    Raises:
        UsageError: The stage trains a part that is not there.
    """
    if stage.denoiser == "head" and model.head is None:
        model.head = make_mmdit(preset.model.head)
        check_channels("head", model.head, *model.token_channels)
    if stage.objective == "vlm" and model.reader is None:
        model.reader = make_reader(model)
    model.requires_grad_(False)
    adapters = Adapters()
    for name in stage.trained:
        part = name.removesuffix(LORA)
        if part in ("gate", "low_level") and getattr(model, part) is None:
            continue  # switched off
        if getattr(model, part, None) is None:
            raise UsageError(
                f"a stage trains {name!r}, which the model does not have", f"parts: {', '.join(model.parts())}"
            )
        if name.endswith(LORA):
            adapters.add(model, part, stage.lora_rank)
        else:
            getattr(model, part).requires_grad_(True)
    return adapters


def finish(model: QueryKontext, adapters: Adapters) -> None:
    """Merge the adapters and drop what only this stage had."""
    adapters.merge(model)
    model.head = model.reader = None
    model.requires_grad_(False)
