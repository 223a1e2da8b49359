"""Builds a data set of query-context pairs from annotated photographs: splits, near-duplicates, shards, data card.

The work is cut into shards by photograph id alone, and each shard is a pure function of its photographs and the options:
so any number of workers, and any number of interruptions, make the same bytes. What is done is kept in `.work/` until the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from qk_bench.errors import UsageError, folded
from qk_bench.images import ImageProblemError, encode_mask_png, encode_png
from qk_bench.records import pixels_digest
from qk_bench.store import take_lock, writing
from qk_tasks.masks import MaskProblemError
from qk_tasks.pairs import coco, openimages
from qk_tasks.pairs.annotations import Annotations, Entry, Mark, Problem, read_marked, read_photo
from qk_tasks.pairs.card import data_card
from qk_tasks.pairs.duplicates import SPLITS, fingerprint, groups, leaked, split_of
from qk_tasks.pairs.edits import RejectedError
from qk_tasks.pairs.formats import Description, Format, Row, damaged, join_imagefolder, write_shard
from qk_tasks.pairs.jobs import kept, parallel, put
from qk_tasks.pairs.pairing import TASKS, Instance, Pair, pairs, square

FORMAT, VERSION = "qk-bench pairs", "2"
DESCRIPTION, PROBLEMS, PLAN = "dataset.json", "problems.jsonl", "plan.json"
LAYOUTS: dict[str, Callable[[Path], Annotations]] = {"coco-edits": coco.read, "openimages": openimages.read}
CHUNK = 256  # photographs fingerprinted together


@dataclass(frozen=True)
class Options:
    """What decides the content of a data set."""

    layout: str
    seed: int = 0
    resolution: int = 512
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    form: Format = "parquet"
    photos_per_shard: int = 100
    limit: int | None = None  # photographs


@dataclass(frozen=True)
class Shard:
    """One unit of work."""

    options: Options
    out: Path
    split: str
    number: int
    entries: tuple[Entry, ...]
    clusters: dict[str, str]

    @property
    def name(self) -> str:
        """Such as `train-00000`."""
        return f"{self.split}-{self.number:05d}"


@dataclass(frozen=True)
class Built:
    """What came of a build."""

    pairs: int
    problems: int
    fresh: bool  # false: it was there already
    reason: str  # the most frequent one why there is no pair of something; empty where there is none


def build(
    source: Path, out: Path, options: Options, workers: int = 1, note: Callable[[str], None] | None = None
) -> Built:
    """Build a data set, or go on with one that was interrupted.

    Raises:
        UsageError: The source is not in the layout, an option makes no sense, `out` holds something else, or another
            build is at work in it.
    """
    note = note or (lambda text: print(text, file=sys.stderr))
    _check_options(options)
    found = LAYOUTS[options.layout](source)
    entries = sorted(found.entries, key=lambda entry: entry.id)[: options.limit]
    plan = {**asdict(options), "version": VERSION, "annotations": _digest(entries, found.problems)}
    if built := _finished(out, plan):
        return built
    work = out / ".work"
    with writing(out):
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out} is not a folder", "name another --out")
        if not (work / PLAN).is_file() and out.exists() and any(entry != work for entry in out.iterdir()):
            raise UsageError(f"{out} holds something that is not a data set of pairs", "name another --out")
        work.mkdir(parents=True, exist_ok=True)
        lock = take_lock(work / "lock", out, "build")
        try:
            return _write(found, entries, out, options, plan, workers, note)
        finally:
            os.close(lock)


def _finished(out: Path, plan: dict[str, Any]) -> Built | None:
    """The data set of a plan that is in a folder already; None where none was finished.

    Raises:
        UsageError: It is another one, or is damaged.
    """
    if not (out / DESCRIPTION).is_file():
        return None
    try:
        held = json.loads((out / DESCRIPTION).read_bytes())
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict) or held.get("plan") != json.loads(json.dumps(plan)):
        raise UsageError(
            f"{out} holds another data set, or its input has changed since", "name another --out, or delete it"
        )
    anew = "delete the folder, or name another --out, and build it again"
    try:
        description = Description.model_validate(held)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{out / DESCRIPTION} is damaged: {folded(where)}: {first['msg']}", anew) from None
    shards = [shard.model_dump() for shard in description.shards]
    for fault in damaged(out, plan["form"], shards, thorough=False):
        raise UsageError(f"{out / fault}", anew)
    if (out / ".work").is_dir():  # a build was killed just before its end
        with writing(out):
            _tidy(out)
    return _built(description, fresh=False)


def _write(
    found: Annotations, entries: Sequence[Entry], out: Path, options: Options, plan: dict[str, Any], workers: int,
    note: Callable[[str], None],
) -> Built:  # fmt: skip
    work, text = out / ".work", json.dumps(plan, indent=1)
    if (work / PLAN).is_file() and (work / PLAN).read_bytes() != text.encode():
        raise UsageError(
            f"{out} holds the beginning of another data set, or its input has changed since",
            "name another --out, or delete it",
        )
    put(work / PLAN, text)
    note(f"{len(entries)} photographs, {len(found.problems)} problems in the annotations")
    problems = list(found.problems)
    prints = _fingerprints(entries, work, options.resolution, workers, problems, note)
    shards, removed = _plan(entries, prints, options, out)
    reports = []
    for report in parallel(_build_shard, shards, workers):
        reports.append(report)
        note(f"shard {report['name']}: {report['pairs']} pairs ({len(reports)} of {len(shards)})")
    problems += [Problem(*row) for report in reports for row in report["problems"]]
    return _finish(out, options, plan, shards, reports, problems, removed, len(entries))


def _check_options(options: Options) -> None:
    if options.layout not in LAYOUTS:
        raise UsageError(f"there is no builder {options.layout!r}", f"there are: {', '.join(LAYOUTS)}")
    if not 64 <= options.resolution <= 2048:
        raise UsageError(f"--resolution {options.resolution} is not within 64 to 2048 pixels")
    shares = options.shares
    if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:  # nor NaN
        raise UsageError(f"--shares {shares} are not three shares that sum to 1", "such as 0.8,0.1,0.1")


def _digest(entries: Sequence[Entry], problems: Sequence[Problem]) -> str:
    """A sha256 of what the annotations say, and of the sizes of the files they name: tells when the input was mended."""
    h = hashlib.sha256()
    for e in entries:
        marks = [(m.id, m.name, m.segmentation, m.crowd, m.mask and (m.mask.name, _size(m.mask))) for m in e.marks]
        h.update(repr((e.id, e.file, _size(e.path), e.size, e.licence, e.attribution, marks)).encode())
    h.update(repr(problems).encode())
    return h.hexdigest()


def _size(path: Path) -> int:
    """A file's size in bytes; -1 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


# Fingerprints


def _fingerprints(
    entries: Sequence[Entry], work: Path, resolution: int, workers: int, problems: list[Problem],
    note: Callable[[str], None],
) -> dict[str, list[int]]:  # fmt: skip
    """Fingerprints of all photographs that can be read; the others become problems."""
    jobs = [
        (work / f"prints-{k:05d}.json", resolution, tuple(entries[k : k + CHUNK]))
        for k in range(0, len(entries), CHUNK)
    ]
    prints: dict[str, list[int]] = {}
    for done in parallel(_print_chunk, jobs, workers):
        prints |= {id: [int(value, 16) for value in values] for id, values in done["prints"].items()}
        problems += [Problem(*row) for row in done["problems"]]
    note(f"{len(prints)} photographs can be read")
    return prints


def _print_chunk(job: tuple[Path, int, tuple[Entry, ...]]) -> dict[str, Any]:
    path, resolution, entries = job
    if done := kept(path):
        return done
    prints, problems = {}, []
    for entry in entries:
        try:
            prints[entry.id] = [f"{value:032x}" for value in _prints_of(entry, resolution)]
        except ImageProblemError as error:
            problems.append((entry.file, f"image {entry.id}", str(error)))
    done = {"prints": prints, "problems": problems}
    put(path, json.dumps(done))
    return done


def _prints_of(entry: Entry, resolution: int) -> list[int]:
    """Of the whole photograph and of the square that is stored: another photograph can be a duplicate of either."""
    pixels = read_photo(entry)
    prints = {fingerprint(pixels)}
    instances, _ = _instances(entry, pixels)
    with contextlib.suppress(RejectedError):
        prints.add(fingerprint(square(pixels, instances, resolution)[0]))
    return sorted(prints)


def _instances(entry: Entry, pixels: NDArray[np.uint8]) -> tuple[list[Instance], list[tuple[Mark, str]]]:
    """The objects of a photograph, and what is wrong with the masks of the others."""
    instances, broken = [], []
    for mark in entry.marks:
        try:
            instances.append(Instance(mark.id, mark.name, read_marked(mark, *pixels.shape[:2]), mark.crowd))
        except MaskProblemError as error:
            broken.append((mark, str(error)))
    return instances, broken


# Shards


def _plan(
    entries: Sequence[Entry], prints: dict[str, list[int]], options: Options, out: Path
) -> tuple[list[Shard], Counter[str]]:
    """The shards, and how many photographs were left out of each split as near-duplicates."""
    split = {entry.id: split_of(entry.id, options.seed, options.shares) for entry in entries}
    group = groups(prints)
    out_of = leaked(group, split)
    shards = []
    for name in SPLITS:
        chosen = [e for e in entries if e.id in prints and split[e.id] == name and e.id not in out_of]
        for number, start in enumerate(range(0, len(chosen), options.photos_per_shard)):
            part = tuple(chosen[start : start + options.photos_per_shard])
            clusters = {entry.id: group.get(entry.id, entry.id) for entry in part}
            shards.append(Shard(options, out, name, number, part, clusters))
    return shards, Counter(split[photo] for photo in out_of)


def _build_shard(shard: Shard) -> dict[str, Any]:
    """Write one shard and its report; the report of one that is there already, and whole, is read."""
    path = shard.out / ".work" / f"{shard.name}.report.json"
    if (done := kept(path)) and _size(shard.out / done["file"]) == done["bytes"]:
        return done
    counts: Counter[str] = Counter()
    rejections: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    problems: list[tuple[str, str, str]] = []

    def rows() -> Iterator[Row]:
        for entry in shard.entries:
            files: dict[str, bytes] = {}  # pairs of one photograph share pictures
            for pair in _pairs_of(entry, shard.options, rejections, problems):
                counts[pair.operation] += 1
                licences[entry.licence or "not stated"] += 1
                yield _row(pair, entry, shard, files)

    file = write_shard(shard.options.form, shard.out, shard.split, shard.number, rows())
    report = {
        "name": shard.name, "split": shard.split, "number": shard.number, "file": str(file.relative_to(shard.out)),
        "pairs": counts.total(), "counts": dict(counts), "rejections": dict(rejections), "licences": dict(licences),
        "problems": problems, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size,
    }  # fmt: skip
    put(path, json.dumps(report))
    return report


def _pairs_of(
    entry: Entry, options: Options, rejections: Counter[str], problems: list[tuple[str, str, str]]
) -> Iterator[Pair]:
    try:
        pixels = read_photo(entry)
    except ImageProblemError as error:  # it was readable a moment ago
        problems.append((entry.file, f"image {entry.id}", str(error)))
        return
    instances, broken = _instances(entry, pixels)
    problems += [(mark.file, f"annotation {mark.id} of image {entry.id}", what) for mark, what in broken]
    if not instances:
        rejections["photograph: no usable object"] += 1
        return
    try:
        image, inside, dropped = square(pixels, instances, options.resolution)
    except RejectedError as error:
        rejections[f"photograph: {error}"] += 1
        return
    incomplete = {mark.name for mark, _ in broken}
    for instance in inside:
        if instance.name in incomplete:  # "the dog" may be the one whose mask is lost
            dropped.setdefault(instance.id, "another of its kind has a broken mask")
    for result in pairs(entry.id, image, inside, dropped, options.seed):
        if isinstance(result, Pair):
            yield result
        else:
            rejections[f"{result[1]}: {result[2]}"] += 1


def _row(pair: Pair, entry: Entry, shard: Shard, files: dict[str, bytes]) -> Row:
    def png(pixels: NDArray[np.uint8]) -> bytes:
        key = pixels_digest(pixels)
        return files.get(key) or files.setdefault(key, encode_png(pixels))

    height, width = pair.edit_mask.shape
    row = {
        "id": pair.id, "instruction": pair.instruction, "operation": pair.operation, "task": TASKS[pair.operation],
        "split": shard.split, "cluster": shard.clusters[entry.id], "photo": entry.id, "object": pair.name,
        "licence": entry.licence, "attribution": entry.attribution, "width": width, "height": height,
        "region_box": list(pair.region.box), "region_point": list(pair.region.point),
        "dx": pair.displacement and pair.displacement[0], "dy": pair.displacement and pair.displacement[1],
    }  # fmt: skip
    images = {
        "source": png(pair.source), "target": png(pair.target),
        "edit_mask": encode_mask_png(pair.edit_mask), "region_mask": encode_mask_png(pair.region.mask),
    }  # fmt: skip
    return row, images


# The end


def _finish(
    out: Path, options: Options, plan: dict[str, Any], shards: Sequence[Shard], reports: Sequence[dict[str, Any]],
    problems: Sequence[Problem], removed: Counter[str], photographs: int,
) -> Built:  # fmt: skip
    if options.form == "imagefolder":
        for split in SPLITS:
            join_imagefolder(out, split, [s.number for s in shards if s.split == split])
    rejections = sum((Counter(report["rejections"]) for report in reports), Counter[str]())
    counts = {
        split: dict(sum((Counter(r["counts"]) for r in reports if r["split"] == split), Counter[str]()))
        for split in SPLITS
    }
    total = sum(report["pairs"] for report in reports)
    description = {
        "format": FORMAT, "name": options.layout, "plan": plan, "pairs": total, "photographs": photographs,
        "counts": counts, "rejections": dict(sorted(rejections.items())), "problems": len(problems),
        "near_duplicates_removed": {split: removed.get(split, 0) for split in SPLITS},
        "licences": dict(sorted(sum((Counter(r["licences"]) for r in reports), Counter[str]()).items())),
        "shards": [{key: r[key] for key in ("name", "pairs", "sha256", "bytes")} for r in reports],
    }  # fmt: skip
    lines = "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in problems)
    (out / PROBLEMS).write_text(lines, encoding="utf-8")
    (out / "README.md").write_text(data_card(description), encoding="utf-8")
    put(out / DESCRIPTION, json.dumps(description, indent=1, ensure_ascii=False) + "\n")
    _tidy(out)
    return _built(Description.model_validate(description), fresh=True)


def _tidy(out: Path) -> None:
    """Remove what only a build that goes on needs; `.work` last, since it tells that there is something to remove."""
    for leftover in out.rglob("*.tmp"):  # of workers that were killed
        leftover.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        shutil.rmtree(out / ".work")


def _built(description: Description, *, fresh: bool) -> Built:
    reason = ""
    for what, count in Counter(description.rejections).most_common(1):
        reason = f"{folded(what)} ({count} time{'s' if count > 1 else ''})"
    return Built(description.pairs, description.problems, fresh, reason)
