"""The model card of a trained model, written from its training record and from nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qk_model.config import FACES


def write_card(folder: Path, record: dict[str, Any]) -> None:
    """Write README.md into a model's folder."""
    (folder / "README.md").write_text(card(record), "utf-8")


def card(record: dict[str, Any]) -> str:
    """The card as Markdown."""
    parameters = record["parameters"]
    validation = dict(record["validation"])
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in parameters.items())
    resolution = record["values"]["model"]["resolution"]
    hours = sum(record["measured"]["seconds"].values()) / 3600
    cores = record["measured"]["hardware"]["cores"]
    stages = record["values"]["training"]["stages"]
    faces = any(task.startswith(FACES) for stage in stages.values() for task in stage["tasks"])
    lines = [
        f"# {record['title']}, preset {record['preset']}",
        "",
        "An image editor that follows instructions, trained on the train split of the scenes suite (coloured shapes on",
        f"procedural and photographic backgrounds){' and of drawn-faces' * faces} at {resolution} pixels. It knows nothing else.",
        "",
        f"- Made by `{record['command']}`, revision {record['git'].get('revision', 'unknown')}"
        f"{' with uncommitted changes' if record['git'].get('dirty') else ''}.",
        f"- {sum(parameters.values()) / 1e6:.2f} M parameters: {sizes}.",
        f"- sha256 of the weights: {record['weights_sha256']}",
        f"- {hours:.2f} hours on {record['measured']['hardware']['processor'] or 'an unnamed processor'}, "
        f"{cores} core{'s' * (cores != 1)}: steps, validation and saved states; steps repeated after an "
        "interruption count once.",
        *_budget(record.get("budget")),
        "",
        "| stage | steps | samples | trained |",
        "|---|---|---|---|",
        *(
            f"| {name} | {stages[name]['steps']} | {count} | {', '.join(stages[name]['trained'])} |"
            for name, count in record["samples"].items()
        ),
        "",
        f"Success on the val split by the suite's verifier, {validation.pop('samples', 0)} samples, one seed:",
        "",
        "| task | success |",
        "|---|---|",
        *(f"| {name} | {rate:.1%} |" for name, rate in validation.items()),
        "",
        "Every value of the recipe is in `training.json`. Figures on the test split come from `qkbench run`.",
    ]
    return "\n".join(lines) + "\n"


def _budget(budget: dict[str, Any] | None) -> list[str]:
    """What a baseline's training was allowed, beside Query-Kontext's."""
    if budget is None:
        return []
    own, reference = (sum(budget[key].values()) / 1e12 for key in ("flops", "query_kontext_flops"))
    return [
        f"- {own:.4g} TFLOP of training after the pretraining shared with Query-Kontext (sha256 "
        f"{budget['pretraining_sha256']}), which spends {reference:.4g}."
    ]
