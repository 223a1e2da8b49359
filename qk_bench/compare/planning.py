"""`qkbench power`: from a pilot run, the samples a difference needs and the difference that samples can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from qk_bench import stats
from qk_bench.compare.engine import Question, blocks_of, check_margin, is_rate
from qk_bench.compare.records import ALL_TASKS
from qk_bench.compare.scores import TaskScores
from qk_bench.errors import NotComparableError, UsageError
from qk_bench.records import Record


class Needed(Record):
    """Samples that show a true difference with the wanted power."""

    difference: float
    seeds: int
    samples: int | None = Field(description="null beyond ten million")


class Visible(Record):
    """The smallest true difference, of either sign where both are possible, that so many samples show."""

    samples: int
    seeds: int
    difference: float | None = Field(description="its size; null if there is none: too few samples")


class Plan(Record):
    """What a pilot says about the size of the run to come."""

    format: Literal["qk-bench power plan"] = "qk-bench power plan"
    format_version: Literal[1] = 1
    a: str
    b: str
    metric: str
    task: str
    kind: Literal["rate", "mean"]
    alpha: float
    power: float
    pilot_difference: float
    pilot_samples: int
    pilot_clusters: int
    pilot_seeds: float
    seed_share: float | None = Field(description="share of one row's variance that comes from seeds; null for one seed")
    needed: tuple[Needed, ...]
    visible: tuple[Visible, ...]
    needed_for_margin: tuple[Needed, ...] = Field(
        default=(),
        description="samples of each task with which the gate passes an unchanged model, at a margin of `difference`",
    )


def read_pilot(question: Question, metric: str, task: str) -> tuple[stats.Pilot, stats.VarianceSplit, bool]:
    """The pilot of the one shown pair on a task and metric, the split of its variance, and whether it is a rate."""
    columns = question.columns()
    block = next((b for b in blocks_of(question.field) if b.task == task), None)
    if block is None or metric not in block.values:
        what = f"metric {metric!r}" if block is not None else f"task {task!r}"
        known = sorted(columns) if block is not None else [b.task for b in blocks_of(question.field)]
        raise UsageError(f"there is no {what} with values per sample in these runs", f"known: {', '.join(known)}")
    return _read_block(question, metric, block)


def _read_block(question: Question, metric: str, block: TaskScores) -> tuple[stats.Pilot, stats.VarianceSplit, bool]:
    a, b = block.values[metric][list(question.shown[0])]
    rate = is_rate(block.values[metric])
    a, b = (np.where(np.isfinite(x), x, np.nan) for x in (a, b))
    try:
        pilot = stats.read_pilot(a, b, block.samples, block.clusters, rate=rate)
    except ValueError as error:
        mend = "use other models, or more samples"
        raise NotComparableError(f"no plan for {metric} on {block.task}: {error}", mend) from None
    return pilot, stats.variance_split(b - a, block.samples), rate


def plan(
    question: Question,
    *,
    metric: str,
    task: str,
    differences: Sequence[float],
    samples: Sequence[int],
    seeds: Sequence[int],
    margin: float | None,
    power: float,
) -> Plan:
    """Answer for every asked difference, sample count and number of seeds; what is not asked gets useful values."""
    pilot, split, rate = read_pilot(question, metric, task)
    if margin is not None:
        check_margin(question.columns()[metric], margin)
    spread = math.sqrt(pilot.variance)
    a, b = (question.field.entrants[i].label for i in question.shown[0])
    if pilot.rates is not None:
        base = pilot.rates[0]
        differences = differences or [-d if base > 0.9 else d for d in (0.02, 0.05, 0.1)]
        for d in differences:
            if not -1e-9 <= base + d <= 1 + 1e-9:
                raise UsageError(f"no model can differ from {a}, which has {base:.1%}, by {100 * d:+g} points")
    differences = differences or [round(spread * f, 4) for f in (0.05, 0.1, 0.2)]
    samples = samples or sorted({pilot.n_samples, 100, 400, 1600})
    seeds = seeds or sorted({1, round(pilot.seeds), 5})
    ask = {"alpha": question.alpha, "power": power}
    needed = tuple(
        Needed(difference=d, seeds=s, samples=stats.required_samples(pilot, d, seeds=s, **ask))
        for d in differences
        for s in seeds
    )
    visible = tuple(
        Visible(samples=n, seeds=s, difference=stats.minimum_detectable_effect(pilot, n, seeds=s, **ask))
        for n in samples
        for s in seeds
    )
    for_margin: tuple[Needed, ...] = ()
    if margin is not None:
        cells = _gated(question, metric, task)
        for_margin = tuple(
            Needed(difference=margin, seeds=s, samples=_samples_for_margin(cells, margin, s, **ask)) for s in seeds
        )
    return Plan(
        a=a,
        b=b,
        metric=metric,
        task=task,
        kind="rate" if rate else "mean",
        alpha=question.alpha,
        power=power,
        pilot_difference=pilot.difference,
        pilot_samples=pilot.n_samples,
        pilot_clusters=round(pilot.clusters_in(pilot.n_samples)),
        pilot_seeds=pilot.seeds,
        seed_share=None if math.isnan(split.seed_share) else split.seed_share,
        needed=needed,
        visible=visible,
        needed_for_margin=for_margin,
    )


def _gated(question: Question, metric: str, task: str) -> list[tuple[stats.Pilot, int]]:
    """What the gate tests on a task, or on all of them: each cell's pilot, and how many tasks are pooled in it."""
    blocks = [block for block in blocks_of(question.field) if task in (block.task, ALL_TASKS)]
    pooled = len(question.field.tasks)
    return [(_read_block(question, metric, b)[0], pooled if b.task == ALL_TASKS else 1) for b in blocks]


def _samples_for_margin(
    cells: Sequence[tuple[stats.Pilot, int]], margin: float, seeds: int, *, alpha: float, power: float
) -> int | None:
    """Fewest samples of each task with which every cell passes an unchanged model, as if cells were independent.

    The cell of all tasks together tends to pass with the others, so that the chance is a little higher.
    """
    each = power ** (1 / len(cells))
    samples = []
    for pilot, tasks in cells:
        n = stats.required_samples_for_margin(pilot, margin, seeds=seeds, alpha=alpha, power=each)
        if n is None:
            return None
        samples.append(math.ceil(n / tasks))
    return max(samples)


def draw(question: Question, found: Plan, path: Path) -> None:
    """Draw the smallest visible difference against the number of samples, a line per number of seeds.

    Args:
        question: What the plan was made from.
        found: The plan.
        path: Where to write; the suffix decides the format, such as .svg or .png.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    pilot, _, rate = read_pilot(question, found.metric, found.task)
    counts = np.unique(np.geomspace(20, max(10_000, 4 * found.pilot_samples), 15).round().astype(int))
    factor, unit = (100, " [points]") if rate else (1, "")
    with mpl.rc_context({"svg.hashsalt": "qk-bench", "font.size": 9}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for style, seeds in zip(("-", "--", ":", "-."), sorted({v.seeds for v in found.visible}), strict=False):
            visible = [
                stats.minimum_detectable_effect(pilot, int(n), seeds=seeds, alpha=found.alpha, power=found.power)
                for n in counts
            ]
            heights = [np.nan if v is None else factor * v for v in visible]
            axes.plot(counts, heights, style, color="#1f5a99", label=f"{seeds} seed{'s' * (seeds > 1)}")
        axes.axvline(found.pilot_samples, color="#999999", linewidth=0.8)
        at_top = ("data", "axes fraction")
        axes.annotate("pilot", (found.pilot_samples, 1), xycoords=at_top, xytext=(3, -10), textcoords="offset points")
        axes.set(xscale="log", yscale="log", xlabel="samples")
        axes.set_ylabel(f"smallest visible difference in {found.metric}{unit}")
        where = "all tasks" if found.task == ALL_TASKS else found.task
        axes.set_title(f"Seen with {found.power:.0%} power at α = {found.alpha:g}, {where}", loc="left")
        axes.grid(which="both", color="#e5e5e5", linewidth=0.6)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        axes.legend(frameon=False)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        try:
            figure.savefig(path, metadata=metadata, dpi=150)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write {path}: {error}", "name a file that ends in .svg or .png") from None
