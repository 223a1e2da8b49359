"""Exports samples as a Hugging Face imagefolder, so that a model can be run anywhere and its outputs scored here.

    FOLDER/README.md                   what it is, how to name outputs, how to score them
    FOLDER/export.json                 which suite, tasks, split and resolution
    FOLDER/test/metadata.jsonl         one line per sample; `*_file_name` columns become images
    FOLDER/test/source/<id>.png        likewise target/, edit_mask/, region_mask/ and references/

The folder below is called `train`, `validation` or `test`, because the loader takes the split from it; every split that
is neither of the first two is a test set. `datasets.load_dataset("imagefolder", data_dir=FOLDER)` loads it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from qk_bench.errors import DamagedRunError, UsageError
from qk_bench.images import encode_mask_png, encode_png
from qk_bench.manifest import SuiteSpec, TaskSpec
from qk_bench.plugins import FoundTask
from qk_bench.records import Sample
from qk_bench.run.plan import SampleReader, ranges
from qk_bench.store import writing

FORMAT: Final = "qk-bench export"
DESCRIPTION: Final = "export.json"
METADATA: Final = "metadata.jsonl"
LOADER_SPLITS: Final = {"train": "train", "val": "validation", "validation": "validation"}
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def export(
    found: Sequence[FoundTask],
    suites: Sequence[SuiteSpec],
    tasks: Sequence[TaskSpec],
    split: str,
    resolution: int,
    out: Path,
) -> int:
    """Write samples to a folder, whole or not at all.

    Returns:
        Number of samples written; 0 if the same export is there already.

    Raises:
        UsageError: The folder holds something else.
    """
    description: dict[str, JsonValue] = {
        "format": FORMAT,
        "suites": [suite.model_dump(mode="json", exclude={"ref", "verifier", "own_size"}) for suite in suites],
        "tasks": [task.model_dump(mode="json", exclude={"diagnostic"}) for task in tasks],
        "split": split,
        "resolution": resolution,
    }
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if _description(out) == description:
            return 0
        what = "another export" if _description(out) else "something that is not an export"
        raise UsageError(f"{out} holds {what}", "name another --out, or delete it")
    out = out.absolute()
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    with writing(out):
        try:
            folder = temporary / LOADER_SPLITS.get(split, "test")
            folder.mkdir(parents=True)
            count = _write_samples(found, tasks, split, resolution, folder)
            size = "at their own sizes" if all(s.own_size for s in suites) else f"{resolution} pixels a side"
            (temporary / "README.md").write_text(_readme(tasks, split, size, count, folder.name))
            (temporary / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
            temporary.replace(out)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return count


def _write_samples(
    found: Sequence[FoundTask], tasks: Sequence[TaskSpec], split: str, resolution: int, folder: Path
) -> int:
    seen: set[str] = set()
    with (folder / METADATA).open("w", encoding="utf-8") as metadata:
        for item, task in zip(found, tasks, strict=True):
            reader = SampleReader(item.task, split, resolution)
            for start, stop in task.indices:
                for index in range(start, stop):
                    sample, _ = reader.read(index)
                    if not _SAFE.fullmatch(sample.id) or sample.id in seen:
                        raise UsageError(
                            f"suite {sample.suite}: id {sample.id!r} is not unique or not a safe file name"
                        )
                    seen.add(sample.id)
                    row = {**_row(sample, resolution), **dict(_images(sample, folder))}
                    metadata.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(seen)


def _row(sample: Sample, resolution: int) -> dict[str, Any]:
    def text(value: Any) -> str | None:
        return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)

    return {
        "id": sample.id,
        "instruction": sample.instruction,
        "suite": sample.suite,
        "suite_version": sample.suite_version,
        "task": sample.task,
        "operation": sample.operation,
        "kind": sample.kind,
        "split": sample.split,
        "index": sample.index,
        "resolution": resolution,
        "width": sample.width,
        "height": sample.height,
        "cluster": sample.cluster,
        "source_caption": sample.source_caption,
        "target_caption": sample.target_caption,
        "region_box": None if sample.region is None else list(sample.region.box),
        "region_point": None if sample.region is None else list(sample.region.point),
        "source_scene": text(sample.source_scene),
        "target_scene": text(sample.target_scene),
        "attributes": text(sample.attributes),
    }


def _images(sample: Sample, folder: Path) -> Iterator[tuple[str, Any]]:
    """Write a sample's images and give the columns that name them."""
    pictures = {"source": sample.source, "target": sample.target}
    masks = {"edit_mask": sample.edit_mask, "region_mask": None if sample.region is None else sample.region.mask}
    files = {name: None if pixels is None else encode_png(pixels) for name, pixels in pictures.items()}
    files |= {name: None if mask is None else encode_mask_png(mask) for name, mask in masks.items()}
    for name, data in files.items():
        yield f"{name}_file_name", None if data is None else _put(folder, f"{name}/{sample.id}.png", data)
    if sample.kind == "compose":
        names = [f"references/{sample.id}-{number}.png" for number in range(len(sample.references))]
        for name, pixels in zip(names, sample.references, strict=True):
            _put(folder, name, encode_png(pixels))
        yield "references_file_names", names


def _put(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return name


def _description(folder: Path) -> dict[str, JsonValue] | None:
    try:
        data = json.loads((folder / DESCRIPTION).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and data.get("format") == FORMAT else None


@dataclass(frozen=True)
class Exported:
    """The set of samples of an export, as its metadata tells it."""

    split: str
    resolution: int
    indices: dict[str, tuple[tuple[int, int], ...]]
    """Ranges of sample indices by task."""
    versions: dict[str, str]
    """Version by suite."""
    ids: dict[tuple[str, int], str]
    """Sample id by (task, index)."""

    def check(self, found: Sequence[FoundTask]) -> None:
        """Check that it holds exactly these tasks, and that its samples are still the ones their suites make.

        Raises:
            UsageError: A task is missing in it, or it comes from another version of a suite.
        """
        for item in found:
            suite, task = item.suite, item.task
            if task.name not in self.indices:
                there = ", ".join(self.indices)
                raise UsageError(f"the export has no samples of {suite.name}/{task.name}; it has: {there}")
            if self.versions.get(suite.name) != suite.version:
                raise UsageError(
                    f"the export is of {suite.name} {self.versions.get(suite.name)}, here is {suite.version}"
                )
            first, last = self.indices[task.name][0][0], self.indices[task.name][-1][1] - 1
            for index in {first, last}:
                made, told = task.sample(self.split, index, self.resolution).id, self.ids[task.name, index]
                if made != told:
                    raise UsageError(f"sample {index} of {suite.name}/{task.name} is {made}, the export says {told}")


def read_export(folder: Path) -> Exported:
    """Read which samples an export holds; lines taken out of its metadata.jsonl are not part of it.

    Raises:
        UsageError: There is no metadata.jsonl, or more than one.
        DamagedRunError: A line of it cannot be read.
    """
    places = [path for path in (folder / METADATA, *sorted(folder.glob(f"*/{METADATA}"))) if path.is_file()]
    if len(places) != 1:
        raise UsageError(f"{folder} has {len(places) or 'no'} {METADATA}", "name a folder that `data export` wrote")
    ids: dict[tuple[str, int], str] = {}
    versions: dict[str, str] = {}
    same: set[tuple[str, int]] = set()
    for number, line in enumerate(places[0].read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            same.add((row["split"], int(row["resolution"])))
            versions[row["suite"]] = row["suite_version"]
            ids[row["task"], int(row["index"])] = row["id"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DamagedRunError(f"{places[0]} line {number} cannot be read: {error!r}") from None
    if len(same) != 1:
        raise DamagedRunError(f"{places[0]} names {len(same) or 'no'} pairs of split and resolution, expected one")
    tasks = dict.fromkeys(task for task, _ in ids)
    indices = {task: ranges([index for name, index in ids if name == task]) for task in tasks}
    split, resolution = same.pop()
    return Exported(split, resolution, indices, versions, ids)


def _readme(tasks: Sequence[TaskSpec], split: str, size: str, count: int, folder: str) -> str:
    names = ", ".join(f"{task.suite}/{task.task}" for task in tasks)
    command = " ".join(f"--task {task.suite}/{task.task}" for task in tasks)
    return f"""# {count} samples of {names}

Split `{split}`, {size}, exported by qk-bench.

```python
from datasets import load_dataset

samples = load_dataset("imagefolder", data_dir="THIS_FOLDER")["{folder}"]
samples[0]["source"], samples[0]["instruction"]
```

For each sample, edit `source` as `instruction` says and save the output, as an 8-bit RGB image of the same size, to
`<id>.png` in a folder of its own (for several seeds: `<id>-seed0.png`, `<id>-seed1.png`, …). A model must not see
`target`, `edit_mask`, `target_caption` or the scenes: they are the answer. Then:

```
qkbench score OUTPUTS {command} --samples THIS_FOLDER
```
"""
