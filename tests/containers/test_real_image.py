"""The image of a real Python base and the locked wheels of the variant `micro`: built, verified, run, compared."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from container_parts import leftovers, unavailable
from harness import same_results
from qk_containers.lock import lock_path
from qk_containers.records import RECIPE, read_image_file
from tiny_presets import LEAN

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.engine, pytest.mark.slow]
VARIANT = "micro"
PLATFORM = "linux/amd64"


def call(*words: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a program; gives what it printed."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, env=env, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def make_base(path: Path) -> Path:
    """The base that docs/container.md describes, by the command that stands there."""
    if shutil.which("mmdebstrap") is None:
        unavailable("needs mmdebstrap (Debian: mmdebstrap)")
    text = (RECIPE.parent.parent / "docs" / "container.md").read_text("utf-8")
    script = text.partition("```sh base\n")[2].partition("```")[0]
    assert "mmdebstrap" in script
    call("bash", "-euc", script, cwd=path.parent)
    return path


def save_model(folder: Path) -> None:
    """A tiny checkpoint of the lean blocks, whose outputs are no zeros."""
    import torch
    from qk_model.config import load_preset
    from qk_model.model import QueryKontext

    torch.manual_seed(0)
    model = QueryKontext(load_preset("micro", LEAN).model)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    call("chmod", "-R", "a+rX", folder)  # the image's user reads it


def test_the_main_job_inside_equals_the_one_outside(client: DockerClient, tmp_path: Path) -> None:
    if sys.version_info[:2] != (3, 11):
        unavailable("the locked wheels are for Python 3.11")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qk-bench"  # wheels are fetched once
    env = {**os.environ, "QK_BENCH_CACHE": str(cache)}
    qkbench = [sys.executable, "-P", "-c", "from qk_bench.cli import main; main()"]
    recipe = tmp_path / "recipe"
    shutil.copytree(RECIPE, recipe, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    base = make_base(tmp_path / "base.tar")
    words = ["--variant", VARIANT, "--recipe", str(recipe)]
    built = call(*qkbench, "container", "build", *words, "--base", base, "--record", "--format", "json", env=env)
    tree = json.loads(built)["tree"]
    assert read_image_file(recipe).expected(VARIANT, PLATFORM).tree == tree  # type: ignore[union-attr]
    call(*qkbench, "container", "verify", *words, env=env)

    save_model(tmp_path / "model")
    job = ["run", "--task", "edit", "--limit", "2", "--resolution", "32", "--seeds", "0,1", "--no-page"]
    job += ["--model", "no-op", "--model", "oracle", "--model", "query-kontext:model"]
    inside = ["container", "run", "--variant", VARIANT, "--read", "model", "--env", "OMP_NUM_THREADS=1"]
    call(*qkbench, *inside, "--", "qkbench", *job, "--out", "runs/inside", env=env)
    told = json.loads((tmp_path / "runs" / "inside" / "manifest.json").read_text())["hardware"]["image"]
    assert told["id"] == json.loads(built)["image"]

    (wheels,) = (f for f in (cache / "wheels").iterdir() if locked(f, recipe))
    unpacked = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--require-hashes", "--find-links", str(wheels)]
    lock = lock_path(recipe, VARIANT, PLATFORM)
    call(sys.executable, "-m", "pip", "install", *unpacked, "--target", tmp_path / "site", "--requirement", lock)
    root = RECIPE.parent.parent
    paths = [
        tmp_path / "site",
        *(root / name for name in (".", "model", "baselines", "tasks", "leaderboard", "containers")),
    ]
    info = next(Path(sysconfig.get_path("purelib")).glob("qk_bench-*.dist-info"))  # names the plug-ins
    shutil.copytree(info, tmp_path / "site" / info.name)
    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare")  # sees no other wheels than the locked ones
    outside = {**env, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    call(tmp_path / "bare" / "bin" / "python", *qkbench[1:], *job, "--out", "runs/outside", env=outside, cwd=tmp_path)
    manifests = [json.loads((tmp_path / "runs" / name / "manifest.json").read_text()) for name in ("inside", "outside")]
    libraries = [{k: v for k, v in m["versions"].items() if k != "python"} for m in manifests]
    assert libraries[0] == libraries[1], "not the same wheels"
    assert same_results(tmp_path / "runs" / "inside", tmp_path / "runs" / "outside")
    assert leftovers(client) == []


def locked(folder: Path, recipe: Path) -> bool:
    """Whether a folder of the cache holds the wheels of the variant's lock."""
    from qk_containers.build import wheel_folder

    return folder.name == wheel_folder(lock_path(recipe, VARIANT, PLATFORM)).name
