"""Training: all stages, resumed to the same bits, with a record that says what was done."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from qk_model import loop, sharding
from qk_model.config import load_preset
from qk_model.data import TrainingBatches
from qk_model.digest import weights_digest
from qk_model.infer import Job, make
from qk_model.model import QueryKontext
from qk_model.train import Options, QueryKontextRecipe, train
from qk_tasks.scenes import SUITE
from safetensors.torch import load_file
from tiny_presets import LEAN, LIBRARY, STAGES

from qk_bench.errors import UsageError

PROGRAM = (
    "import sys, torch, yaml; torch.set_num_threads(1); from pathlib import Path;"
    "from qk_model.train import Options, train;"
    "train(Options('micro', Path(sys.argv[1]), overrides=yaml.safe_load(open(sys.argv[2]))))"
)
# Before it. Accelerate shards on accelerators alone, so it is told that these processes have some; the CPU stays their device.
SHARDED = (
    "from accelerate import DistributedType, PartialState;"
    "PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU;"
)
# What the loop does on an accelerator.
LIGHTENED = (
    "from qk_model.train import QueryKontextRecipe as Recipe; prepare = Recipe.prepare;"
    "Recipe.prepare = lambda self, model, name: (prepare(self, model, name), model.lighten())[0];"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of the shrunk micro preset, done in one go."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("training")
    assert train(Options("micro", out, overrides=LEAN)) == out / "model"
    return out


def test_every_stage_leaves_a_model_and_the_last_one_ships(trained: Path) -> None:
    assert {p.name for p in trained.glob("after-*")} == {f"after-{name}" for name in STAGES}
    assert not list(trained.glob("state-*"))
    model = QueryKontext.from_pretrained(trained / "model")
    sample = SUITE.tasks["removal"].sample("test", 0, 32)
    assert make(model, [Job(sample.instruction, 32, 32, 1, sample.source)])[0].image.shape == (32, 32, 3)


def test_a_stage_changes_only_what_it_trains(trained: Path) -> None:
    def parts(name: str) -> dict[str, list[torch.Tensor]]:
        model = QueryKontext.from_pretrained(trained / f"after-{name}")
        return {part: list(module.parameters()) for part, module in model.parts().items() if module is not None}

    moved = {}
    for before, after in itertools.pairwise(STAGES):
        a, b = parts(before), parts(after)
        moved[after] = {n for n in a if not all(torch.equal(x, y) for x, y in zip(a[n], b[n], strict=True))}
    assert moved["pretrain-vlm"] == {"vlm", "tokens", "connector", "gate"}
    assert moved["1"] == {"vlm", "tokens", "connector", "gate"}  # the LoRA is merged, the head is gone
    assert moved["2"] == {"connector", "gate", "mmdit"}
    assert moved["3"] <= {"tokens", "connector", "gate", "mmdit", "low_level"}
    assert "mmdit" in moved["3"]


def test_the_record_and_the_card_say_what_was_done(trained: Path) -> None:
    record = json.loads((trained / "model" / "training.json").read_text())
    assert record["weights_sha256"] == weights_digest(trained / "model")
    assert record["values"]["training"]["stages"]["3"]["lora_rank"] == 4
    assert set(record["samples"]) == set(STAGES)
    card = (trained / "model" / "README.md").read_text()
    assert record["weights_sha256"] in card
    assert "| 3 | 4 | 16 | tokens, connector, mmdit_lora, gate, low_level |" in card


def test_the_log_has_a_line_for_every_step(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    for name in STAGES:
        assert [line["step"] for line in lines if line["stage"] == name and "loss" in line] == [1, 2, 3, 4]
    assert [line["validation"]["samples"] for line in lines if line["stage"] == "3" and "validation" in line] == [4]
    assert list((trained / "tensorboard" / "3").iterdir())


def test_weights_ship_in_bf16(trained: Path) -> None:
    model = QueryKontext.from_pretrained(trained / "model", dtype=torch.bfloat16)
    stored = QueryKontext.from_pretrained(trained / "model")
    assert all(torch.equal(a.float(), b) for a, b in zip(model.parameters(), stored.parameters(), strict=True))


def test_another_training_in_the_same_folder_is_refused(trained: Path) -> None:
    with pytest.raises(UsageError, match="holds another training: max_steps"):
        train(Options("micro", trained, max_steps=3, overrides=LEAN))


def test_a_stage_without_its_predecessor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run stage 1 first"):
        train(Options("micro", tmp_path, stage="2", overrides=LEAN))


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no stage '4'"):
        train(Options("micro", tmp_path, stage="4", overrides=LEAN))


def test_stage_by_stage_is_the_same_as_all_at_once(trained: Path, tmp_path: Path) -> None:
    for stage in ("pretrain", "1", "2", "3"):
        train(Options("micro", tmp_path, stage=stage, overrides=LEAN))
    assert weights_digest(tmp_path / "model") == weights_digest(trained / "model")


class PowerCut(Exception):
    """What ends a training in the middle."""


def test_what_sessions_before_took_counts_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on whenever it is looked at; the steps after the last state are done and counted again."""
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    values = {**LEAN, "training.schedule": ["3"], "training.workers": 0}
    whole, resumed = (Options("micro", tmp_path / name, overrides=values) for name in ("whole", "resumed"))
    made = TrainingBatches.__getitem__

    def cut(self: TrainingBatches, step: int) -> Any:
        if step == 3:
            raise PowerCut
        return made(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingBatches, "__getitem__", cut)
        with pytest.raises(PowerCut):
            train(resumed)
    train(resumed)
    train(whole)
    seconds = [json.loads((o.out / "model/training.json").read_text())["measured"]["seconds"] for o in (whole, resumed)]
    assert seconds[0] == seconds[1]
    assert "steps repeated after an interruption count once" in (whole.out / "model/README.md").read_text()


def test_processes_that_cannot_share_a_training_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, accelerator = QueryKontextRecipe(load_preset("micro", LEAN)), Accelerator()
    with monkeypatch.context() as patch:
        patch.setattr(accelerator.state, "num_processes", 3)
        with pytest.raises(UsageError, match="stage 2: a batch of 4 does not divide among 3 processes"):
            loop._check_processes(recipe, ["2"], accelerator)
    monkeypatch.setattr(accelerator.state, "distributed_type", DistributedType.DEEPSPEED)
    with pytest.raises(UsageError, match=r"DEEPSPEED: .* only FSDP version 2 .*--use_fsdp --fsdp_version 2"):
        loop._check_processes(recipe, ["2"], accelerator)
    monkeypatch.setattr(accelerator.state, "distributed_type", DistributedType.FSDP)
    monkeypatch.setattr(accelerator.state, "fsdp_plugin", SimpleNamespace(fsdp_version=1), raising=False)
    with pytest.raises(UsageError, match=r"FSDP: .* only FSDP version 2 .*--use_fsdp --fsdp_version 2"):
        loop._check_processes(recipe, ["2"], accelerator)
    accelerator.state.fsdp_plugin.fsdp_version = 2
    loop._check_processes(recipe, ["pretrain-vae"], accelerator)
    with pytest.raises(UsageError, match="stage 2: Muon wants whole matrices"):
        loop._check_processes(recipe, ["2"], accelerator)


def test_what_accelerate_launch_says_of_fsdp_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--num_processes 2 --num_machines 1 --mixed_precision bf16 --dynamo_backend no --use_fsdp --fsdp_version"
    for version, understood in (("1", False), ("2", True)):
        told = prepare_multi_gpu_env(launch_command_parser().parse_args([*words.split(), version, "train.py"]))
        for name in ("ACCELERATE_USE_FSDP", *(name for name in told if name.startswith("FSDP_"))):
            monkeypatch.setenv(name, told[name])
        plugin = sharding.plugin()
        assert (plugin is not None) == understood
    assert plugin is not None
    assert plugin.fsdp_version == 2
    assert not plugin.cpu_ram_efficient_loading


def test_a_state_of_shares_is_not_taken_for_one_of_whole_weights(tmp_path: Path) -> None:
    (tmp_path / "state-3-0000002" / loop.AVERAGE).mkdir(parents=True)
    with pytest.raises(UsageError, match="state-3-0000002 was saved with FSDP"):
        train(Options("micro", tmp_path, overrides={**LEAN, "training.schedule": ["3"]}))


def test_processes_that_know_nothing_of_each_other_are_refused(tmp_path: Path) -> None:
    """As torchrun starts them where there is no GPU: each would train alone, over one folder."""
    sheet = tmp_path / "sheet.yaml"
    sheet.write_text(yaml.safe_dump(LEAN), "utf-8")
    processes = _two_processes(tmp_path / "out", sheet, ACCELERATE_USE_CPU="false", CUDA_VISIBLE_DEVICES="")
    for process in processes:
        assert b"2 processes were started that do not know of each other" in process.communicate()[1].splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_damaged_plan_is_one_line(tmp_path: Path) -> None:
    for content in (b"{", b"[]", b"\xff"):
        (tmp_path / "plan.json").write_bytes(content)
        with pytest.raises(UsageError, match=r"plan\.json cannot be read: .* \(restore it"):
            train(Options("micro", tmp_path, overrides=LEAN))


def test_time_is_estimated_only_where_the_cpu_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = QueryKontextRecipe(load_preset("micro", {**LEAN, "training.stages.3.steps": 50}))
    assert loop.estimate(recipe, ["3"], tmp_path) > 0
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("meta"))
    assert loop.estimate(recipe, ["3"], tmp_path) == 0
    assert "min" not in capsys.readouterr().err.splitlines()[-1]


def test_muon_trains_too(tmp_path: Path) -> None:
    values = {**LEAN, "training.schedule": ["3"], "training.stages.3.optimizer": "muon", "training.stages.3.steps": 2}
    assert train(Options("micro", tmp_path, overrides=values)) == tmp_path / "model"


def test_the_library_classes_train_through_the_same_stages(tmp_path: Path) -> None:
    assert train(Options("micro", tmp_path, max_steps=2, overrides=LIBRARY)) == tmp_path / "model"
    assert QueryKontext.from_pretrained(tmp_path / "model").config == load_preset("micro", LIBRARY).model


@pytest.mark.slow
def test_two_processes_train_one_model_and_resume(tmp_path: Path) -> None:
    sheet, out = tmp_path / "sheet.yaml", tmp_path / "out"
    sheet.write_text(yaml.safe_dump({**LEAN, "training.schedule": ["3"]}), "utf-8")
    _killed(_two_processes(out, sheet), out)
    assert len(list(out.glob("state-3-*/random_states_*.pkl"))) == 2, "one had not written its share"
    for folder in (out, tmp_path / "whole"):
        assert [p.wait() for p in _two_processes(folder, sheet)] == [0, 0]
    assert weights_digest(out / "model") == weights_digest(tmp_path / "whole" / "model")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]


@pytest.mark.slow
def test_two_processes_that_share_the_weights_train_the_same_model_and_resume(tmp_path: Path) -> None:
    """FSDP: resumed to the same bits, and within rounding what two processes make that each hold the whole model."""
    sheet, out, whole, unsharded = (tmp_path / name for name in ("sheet.yaml", "out", "whole", "unsharded"))
    values = {**LEAN, "training.schedule": ["pretrain-vae", "3"], "training.validate_every": 3}
    values |= {"training.stages.3.optimizer": "adamw", "training.stages.3.micro_batch": 1}
    sheet.write_text(yaml.safe_dump(values), "utf-8")
    _killed(_two_processes(out, sheet, SHARDED), out)
    assert len(list(out.glob("state-3-*/average/*.distcp"))) == 2, "each has a share of the average"
    for folder, before in ((out, SHARDED), (whole, SHARDED), (unsharded, "")):
        assert [p.wait() for p in _two_processes(folder, sheet, before)] == [0, 0]
    for stage in ("pretrain-vae", "3"):
        assert _weights(out / f"after-{stage}") == _weights(whole / f"after-{stage}")
        _close(out / f"after-{stage}", unsharded / f"after-{stage}")
    logs = [(folder / "log.jsonl").read_text().splitlines() for folder in (out, unsharded)]
    found = [[line for line in map(json.loads, log) if "validation" in line] for log in logs]
    assert [line["step"] for line in found[0]] == [3, 4]
    assert [line["reasons"] for line in found[0]] == [line["reasons"] for line in found[1]]


@pytest.mark.slow
def test_library_classes_share_weights_of_two_types(tmp_path: Path) -> None:
    """FSDP under bf16 autocast, with frozen weights in bf16 beside trained ones in float32, as on accelerators."""
    sheet = tmp_path / "sheet.yaml"
    values = {**LIBRARY, "training.schedule": ["1"], "training.mixed_precision": "bf16"}
    values |= {"training.stages.1.optimizer": "adamw", "training.stages.1.warmup_steps": 1}
    sheet.write_text(yaml.safe_dump(values), "utf-8")
    for name, before in (("sharded", SHARDED), ("unsharded", "")):
        assert [p.wait() for p in _two_processes(tmp_path / name, sheet, before + LIGHTENED)] == [0, 0]
    sharded, unsharded = (_losses(tmp_path / name) for name in ("sharded", "unsharded"))
    assert len(sharded) == 4
    assert sharded == pytest.approx(unsharded, rel=0.01)


def _killed(processes: list[subprocess.Popen[bytes]], out: Path) -> None:
    """Kill -9 once a state of stage 3 is on disk."""
    while all(p.poll() is None for p in processes) and not list(out.glob("state-3-*")):
        time.sleep(0.002)
    assert all(p.poll() is None for p in processes), "they ended before they could be killed"
    for process in processes:
        process.kill()
        process.wait()


def _losses(out: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in line]


def _close(one: Path, other: Path) -> None:
    """Equal but for the rounding: a step moves a weight by 2e-5 and more.

    Attention does not feel the biases of its keys: what gradient they have is rounding, of which AdamW makes whole steps.
    """
    for path in sorted(one.rglob("*.safetensors")):
        weights, expected = (
            {name: value for name, value in load_file(file).items() if not name.endswith("qkv.bias")}
            for file in (path, other / path.relative_to(one))
        )
        torch.testing.assert_close(weights, expected, atol=2e-6, rtol=1e-5)


def _two_processes(out: Path, sheet: Path, before: str = "", **extra: str) -> list[subprocess.Popen[bytes]]:
    """As a launcher starts them; `SHARDED` before the program is FSDP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    told |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    if SHARDED in before:
        told |= {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", before + PROGRAM, str(out), str(sheet)],
            stderr=subprocess.PIPE if extra else subprocess.DEVNULL,
            env={**os.environ, **told, **extra, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]


@pytest.mark.slow
def test_training_killed_at_any_moment_resumes_to_the_same_bits(trained: Path, tmp_path: Path) -> None:
    """Kill -9 once a state is on disk, in three stages; the weights equal those of one go, bit for bit."""
    sheet = tmp_path / "sheet.yaml"
    sheet.write_text(yaml.safe_dump(LEAN), "utf-8")
    out = tmp_path / "out"
    command = [sys.executable, "-c", PROGRAM, str(out), str(sheet)]
    for stage in ("pretrain-vae", "1", "3"):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and not list(out.glob(f"state-{stage}-*")):
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert weights_digest(out / "model") == weights_digest(trained / "model")
    for name in STAGES:
        assert _weights(out / f"after-{name}") == _weights(trained / f"after-{name}"), name
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["stage"] == "1" and "loss" in line] == [1, 2, 3, 4]


def _weights(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
