"""The provenance page: a reproducibility appendix that prints."""

from __future__ import annotations

import json
import shlex
from typing import Any

from pydantic import JsonValue

from qk_bench.manifest import Manifest
from qk_leaderboard import scales
from qk_leaderboard.reading import Run
from qk_leaderboard.site import Site, anchor


def write(site: Site) -> None:
    """Write `provenance.html`."""
    site.render("provenance.html", "provenance.html", title="Provenance", appendix=[_run(run) for run in site.runs])


def _run(run: Run) -> dict[str, Any]:
    manifest = run.manifest
    return {
        "label": run.label,
        "anchor": anchor(run),
        "manifest": manifest,
        "requests": scales.count(manifest.requests),
        "done": scales.count(run.done),
        "sessions": [
            {
                "command": session.command, "started": session.started, "finished": session.finished or "killed",
                "wall": _seconds(session.wall_seconds), "cpu": _seconds(session.cpu_seconds),
                "peak": f"{session.peak_memory_bytes / 2**20:.0f}" if session.peak_memory_bytes else scales.MISSING,
            }
            for session in manifest.sessions
        ],
        "commands": commands(manifest),
        "git": {key: _plain(value) for key, value in sorted(manifest.git.items())},
        "hardware": {key: _plain(value) for key, value in sorted(manifest.hardware.items()) if value not in ([], None)},
        "versions": dict(sorted(manifest.versions.items())),
        "files": dict(sorted(manifest.files.items())),
        "models": [model.card for model in manifest.spec.models],
        "refs": {model.card.name: model.ref for model in manifest.spec.models},
    }  # fmt: skip


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _seconds(value: float | None) -> str:
    return scales.MISSING if value is None else scales.decimal(value, 1)


def _argument(value: JsonValue) -> str:
    """A value as `--model-arg` reads it back: a text that could be read as JSON is quoted."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except ValueError:
        return value
    return json.dumps(value)


def commands(manifest: Manifest) -> list[dict[str, str]]:
    """Per model, the command that makes its numbers again: what was asked for, without where it was written.

    Which samples a folder of images answers only `qkbench score` can tell: there the command is the one that was given.
    """
    spec, found = manifest.spec, []
    if manifest.sessions and manifest.sessions[0].command.startswith("qkbench score "):
        return [{"model": spec.models[0].card.name, "command": manifest.sessions[0].command}]
    for model in spec.models:
        words = ["qkbench", "run"]
        for task in spec.tasks:
            words += ["--task", f"{next(s.ref for s in spec.suites if s.name == task.suite)}/{task.task}"]
        words += ["--model", model.ref]
        for key, value in sorted(model.arguments.items()):
            words += ["--model-arg", f"{key}={_argument(value)}"]
        largest = max(task.indices[-1][1] for task in spec.tasks)  # a task with fewer samples gives all it has
        words += ["--limit", str(largest), "--seeds", ",".join(map(str, spec.seeds))]
        words += ["--split", spec.split, "--resolution", str(spec.resolution)]
        for metric in spec.metrics:
            words += ["--metric", metric.ref]
        if spec.timeout is not None:
            words += ["--timeout", str(spec.timeout)]
        found.append({"model": model.card.name, "command": shlex.join(words)})
    return found
