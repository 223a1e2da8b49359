"""What is said of time and memory: on which machine, and as files."""

from __future__ import annotations

import json
from pathlib import Path

from qk_leaderboard import build
from simulated import simulate

from qk_bench.store import TIMINGS, RunDirectory
from tests.leaderboard.conftest import simulated

LATER = "2026-02-01T00:00:00Z"


def timed(path: Path, model: str, seconds: float, processor: str, *, seeds: int = 3, started: str = "") -> Path:
    """A simulated run whose every image took some seconds on some machine."""
    simulated(path, {"removal": simulate(12, {model: 0.5}, seeds=seeds)}, started=started)
    directory = RunDirectory(path)
    manifest = directory.read_manifest()
    assert manifest is not None
    directory.write_manifest(manifest.model_copy(update={"hardware": {"processor": processor, "cores": 2}}))
    lines = [
        {
            "model": model, "suite": "scenes", "task": "removal", "sample_id": f"removal-{i:06d}", "seed": seed,
            "seconds": seconds, "requests": 1, "peak_memory_bytes": 2**20,
        }
        for i in range(12)
        for seed in range(seeds)
    ]  # fmt: skip
    (path / TIMINGS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_times_of_different_machines_are_said_to_be_no_comparison(tmp_path: Path) -> None:
    one, other = timed(tmp_path / "a", "m", 0.5, "abacus"), timed(tmp_path / "b", "n", 0.1, "loom", started=LATER)
    build([one, other], tmp_path / "both")
    page = (tmp_path / "both" / "compute.html").read_text()
    assert "different machines, so that times and memory of models from two of them cannot be compared" in page
    assert "<bdi>abacus, 2 cores</bdi> (<bdi>m</bdi>)" in page and "<bdi>loom, 2 cores</bdi> (<bdi>n</bdi>)" in page
    build([one], tmp_path / "one")
    assert "Measured on: <bdi>abacus, 2 cores</bdi>. A batch" in (tmp_path / "one" / "compute.html").read_text()


def test_costs_are_downloaded_too(tmp_path: Path) -> None:
    build([timed(tmp_path / "a", "m", 0.5, "abacus")], tmp_path / "site")
    (row,) = json.loads((tmp_path / "site" / "downloads" / "costs.json").read_text())
    assert (row["model"], row["seconds"], row["n"], row["images_per_second"]) == ("m", 0.5, 36, 2.0)
    assert row["peak_memory_bytes"] == 2**20 and row["device_peak_memory_bytes"] is None
    assert "costs.csv" in (tmp_path / "site" / "downloads.html").read_text()


def test_runs_of_other_seeds_are_not_counted_as_more_seeds_each(tmp_path: Path) -> None:
    one, other = timed(tmp_path / "a", "m", 0.5, "abacus"), timed(tmp_path / "b", "n", 0.1, "abacus", seeds=1)
    build([one, other], tmp_path / "site")
    assert "1 to 3 seeds each." in (tmp_path / "site" / "index.html").read_text()
