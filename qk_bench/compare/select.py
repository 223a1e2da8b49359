"""From what the user names (`A B`, `A:model B:model`, `RUN --baseline M`) to entrants, families and pairs to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from qk_bench.compare.align import Entrant, align
from qk_bench.compare.engine import Pair, Question
from qk_bench.compare.scores import Run, load_run
from qk_bench.errors import UsageError
from qk_bench.plugins import near


@dataclass(frozen=True)
class Options:
    """What applies to any comparison; see `Question`."""

    tasks: frozenset[str] = frozenset()
    metrics: frozenset[str] = frozenset()
    margins: Mapping[str, float] | None = None
    alpha: float = 0.05
    intersect: bool = False


def parse_margins(texts: list[str]) -> dict[str, float]:
    """Read `success=0.02,drift=0.5`; a bare number is the margin of success."""
    margins = {}
    for part in (p.strip() for text in texts for p in text.split(",") if p.strip()):
        name, _, value = part.rpartition("=")
        try:
            margins[name.strip() or "success"] = float(value)
        except ValueError:
            raise UsageError(f"{part!r} is not a margin", "write METRIC=NUMBER, such as success=0.02") from None
    return margins


def within_run(target: str, baseline: str | None, options: Options) -> Question:
    """Every other model of a run against the baseline, or every pair if none is named."""
    path, model = parse_target(target)
    run = load_run(path)
    baseline = baseline or model
    if len(run.models) < 2:
        raise UsageError(f"{path} has one model only, {run.models[0]}", "name a second run to compare with")
    entrants = tuple(Entrant(run, name, name) for name in run.models)
    first = run.models.index(_known(run, baseline)) if baseline is not None else None
    family = _oriented(len(entrants), first)
    shown = family if first is None else tuple(pair for pair in family if pair[0] == first)
    return _question(entrants, family, shown, options)


def between(a: str, b: str, options: Options) -> Question:
    """B against A: two models of one run, or one or more models of two runs."""
    (path_a, model_a), (path_b, model_b) = parse_target(a), parse_target(b)
    run_a = load_run(path_a)
    if path_a.resolve() == path_b.resolve():
        if model_a is None or model_b is None:
            raise UsageError(f"{a} and {b} are one run", "name two models, RUN:MODEL RUN:MODEL, or use --baseline")
        first, second = (run_a.models.index(_known(run_a, m)) for m in (model_a, model_b))
        if first == second:
            raise UsageError(f"{a} and {b} are the same model of the same run")
        entrants = tuple(Entrant(run_a, name, name) for name in run_a.models)
        return _question(entrants, _oriented(len(entrants), first), ((first, second),), options)

    run_b = load_run(path_b)
    shown_names = _pairs_between(run_a, model_a, run_b, model_b)
    family_names = list(dict.fromkeys([*((m, m) for m in run_a.models if m in run_b.models), *shown_names]))
    names = (path_a.name, path_b.name) if path_a.name != path_b.name else (str(path_a), str(path_b))
    entrants_a = {m: Entrant(run_a, m, f"{names[0]}:{m}") for m in dict.fromkeys(m for m, _ in family_names)}
    entrants_b = {m: Entrant(run_b, m, f"{names[1]}:{m}") for m in dict.fromkeys(m for _, m in family_names)}
    place_a = {m: i for i, m in enumerate(entrants_a)}
    place_b = {m: len(entrants_a) + i for i, m in enumerate(entrants_b)}
    family = tuple((place_a[x], place_b[y]) for x, y in family_names)
    shown = tuple((place_a[x], place_b[y]) for x, y in shown_names)
    return _question((*entrants_a.values(), *entrants_b.values()), family, shown, options)


def _question(
    entrants: tuple[Entrant, ...], family: tuple[Pair, ...], shown: tuple[Pair, ...], options: Options
) -> Question:
    field = align(entrants, intersect=options.intersect)
    return Question(field, family, shown, options.tasks, options.metrics, options.margins, options.alpha)


def parse_target(text: str) -> tuple[Path, str | None]:
    """`RUN` or `RUN:MODEL`; a model's own name may hold a colon."""
    if Path(text).exists():
        return Path(text), None
    for i, character in enumerate(text):
        if character == ":" and i > 0 and Path(text[:i]).exists():
            return Path(text[:i]), text[i + 1 :]
    return Path(text), None


def _known(run: Run, model: str) -> str:
    if model not in run.models:
        raise UsageError(f"{run.path} has no model {model!r}{near(model, run.models)}")
    return model


def _oriented(n: int, first: int | None) -> tuple[Pair, ...]:
    """Every pair of n entrants, the baseline first where it takes part."""
    return tuple((j, i) if j == first else (i, j) for i, j in combinations(range(n), 2))


def _pairs_between(a: Run, model_a: str | None, b: Run, model_b: str | None) -> list[tuple[str, str]]:
    """Names of the pairs to show."""
    if model_a is not None or model_b is not None:
        x, y = model_a or _counterpart(a, model_b), model_b or _counterpart(b, model_a)
        return [(_known(a, x), _known(b, y))]
    common = [m for m in a.models if m in b.models]
    if common:
        return [(m, m) for m in common]
    if len(a.models) == len(b.models) == 1:
        return [(a.models[0], b.models[0])]
    raise UsageError(
        f"{a.path} ({', '.join(a.models)}) and {b.path} ({', '.join(b.models)}) have no model in common",
        "name the models: RUN:MODEL RUN:MODEL",
    )


def _counterpart(run: Run, other: str | None) -> str:
    """The model of a run that is meant where only the other side's was named."""
    if other is not None and other in run.models:
        return other
    if len(run.models) == 1:
        return run.models[0]
    raise UsageError(f"which model of {run.path}? It has {', '.join(run.models)}", f"write {run.path}:MODEL")
