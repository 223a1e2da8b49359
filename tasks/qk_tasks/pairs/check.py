"""`qkbench data check`: is every item of a folder of pairs a fair question?"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from qk_bench.errors import one_line
from qk_tasks.pairs import reader, verifier
from qk_tasks.pairs.annotations import Problem
from qk_tasks.pairs.duplicates import fingerprint, groups
from qk_tasks.pairs.formats import damaged
from qk_tasks.pairs.reader import Dataset, Item, ItemProblemError


@dataclass(frozen=True)
class Checked:
    """What came of a check."""

    items: int
    counts: dict[str, int]  # good items by split and operation
    problems: list[Problem]


def check(folder: Path) -> Checked:
    """Check every item: fields, images, masks, ids, answers, and that splits share no photograph.

    Raises:
        UsageError: It is no folder of pairs.
    """
    dataset = reader.read(folder)
    problems = list(dataset.problems)
    counts: Counter[str] = Counter()
    seen: dict[str, str] = {}
    prints: dict[str, set[int]] = defaultdict(set)  # by cluster
    splits: dict[str, set[str]] = defaultdict(set)
    for index, item in enumerate(dataset.items):
        faults = list(_faults(item, index, dataset, seen, prints, splits))
        problems += [Problem(item.where, item.id or "item", fault) for fault in faults]
        if not faults:
            counts[f"{item.split} {item.operation}"] += 1
    problems += _leaks(prints, splits)
    problems += _changed(folder, {problem.file for problem in dataset.problems})
    if not dataset.items and not problems:
        problems.append(Problem(folder.absolute().name, "data set", "is empty"))
    return Checked(len(dataset.items), dict(sorted(counts.items())), problems)


def _faults(
    item: Item,
    index: int,
    dataset: Dataset,
    seen: dict[str, str],
    prints: dict[str, set[int]],
    splits: dict[str, set[str]],
) -> Iterator[str]:
    if item.id in seen:
        yield f"id {item.id!r} is there twice, first at {seen[item.id]}"
    seen.setdefault(item.id, item.where)
    try:
        sample = reader.to_sample(item, dataset.name, "1", index)
    except ItemProblemError as error:
        yield str(error)
        return
    assert sample.source is not None and sample.target is not None
    splits[sample.cluster].add(item.split)
    inverse = (
        dataset.built and item.operation == "insert"
    )  # its target is the photograph, which is what a build compares
    prints[sample.cluster].add(fingerprint(sample.target if inverse else sample.source))
    view = verifier.look(sample, sample.target)
    if reason := verifier.judge(view, sample):
        yield f"the target fails its own verification: {reason}"
    if not verifier.judge(replace(view, output=view.source), sample):
        yield "the source passes as the answer: no visible change"


def _changed(folder: Path, named: set[str]) -> Iterator[Problem]:
    """What a build wrote and is no longer so; files that are named already are left out."""
    path = folder / "dataset.json"
    if not path.is_file():  # made by hand
        return
    try:
        described = json.loads(path.read_bytes())
        for fault in dict.fromkeys(damaged(folder, described["plan"]["form"], described["shards"], thorough=True)):
            file, _, what = fault.partition(": ")
            if file not in named:
                yield Problem(file, "file", what)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        yield Problem(path.name, "file", f"does not describe a build: {one_line(error)}")


def _leaks(prints: dict[str, set[int]], splits: dict[str, set[str]]) -> Iterator[Problem]:
    for cluster, names in sorted(splits.items()):
        if len(names) > 1:
            yield Problem("splits", cluster, f"the photograph is in several splits: {', '.join(sorted(names))}")
    group = groups(prints)
    members: dict[str, list[str]] = defaultdict(list)
    for photo, head in sorted(group.items()):
        members[head].append(photo)
    for head, photos in sorted(members.items()):
        names = set().union(*(splits[photo] for photo in photos))
        if len(names) > 1 and len(photos) > 1:
            others = ", ".join(photo for photo in photos if photo != head)
            yield Problem(
                "splits", head, f"near-duplicates lie in several splits ({', '.join(sorted(names))}): {others}"
            )
