"""The trained baselines: as heavy as Query-Kontext, trained as long, resumed to the same bits, and true to their promises."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from qk_baselines.checkpoint import CHECKPOINTS
from qk_baselines.trained.budget import plan, reference
from qk_baselines.trained.config import NAMES, load_baseline
from qk_baselines.trained.data import CAPTION_LENGTH, CHANGE_LENGTH
from qk_baselines.trained.network import Network
from qk_baselines.trained.recipe import answers, load_network
from qk_baselines.trained.table import TOLERANCE, tables
from qk_baselines.trained.trainer import BaselineTrainer
from qk_model import loop, train
from qk_model.data import TrainingBatches, answer, draw_sample, framed
from qk_model.digest import weights_digest
from qk_model.infer import Job, prepare
from qk_model.recipe import Options
from qk_model.tokenizer import build_tokenizer
from qk_tasks.scenes import SUITE
from tiny_presets import LEAN

from qk_bench.conformance import check_model, failures
from qk_bench.errors import UsageError
from qk_bench.interfaces import Failure
from qk_bench.plugins import load_model

SIZE = {"width": 32, "depth": 1, "num_heads": 2}
OWN: dict[str, dict[str, Any]] = {
    "unified-a": {"model.depth": 3},
    "blip3o": {"model.feature_channels": 8, "model.encoder": SIZE, "model.prior": SIZE, "model.decoder": SIZE},
    "two-stage": {"model.inpainter": SIZE},
    "two-stage-generate": {"model.drawer": SIZE, "model.editor": SIZE, "model.draft_steps": 2},
}
LOOP = {
    "training.mixed_precision": "no",
    "training.workers": 0,
    "training.log_every": 1,
    "training.checkpoint_every": 2,
    "training.validate_every": 1000,
    "training.validation_samples": 1,
}
STEPS = 3


def tiny(name: str) -> dict[str, Any]:
    """Values that shrink a baseline."""
    stages = load_baseline(name).training.stages
    small = {"batch_size": 4, "micro_batch": 2, "resolutions": {32: 1.0}}
    return LOOP | OWN[name] | {f"training.stages.{s}.{key}": value for s in stages for key, value in small.items()}


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shrunk Query-Kontext, pretrained."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "train-query-kontext-micro"
    values = {**LEAN, "training.workers": 0, "training.stages.1.steps": 40}
    train.train(Options("micro", out, "pretrain", overrides=values))
    return out


@pytest.fixture(scope="module")
def folder(pretraining: Path) -> Path:
    """All four, trained in one command beside that pretraining."""
    out = pretraining.parent / "train-baselines-micro"
    values = {f"{name}.{path}": value for name in NAMES for path, value in tiny(name).items()}
    BaselineTrainer().train("micro", stage="all", max_steps=STEPS, out=out, overrides=values)
    return out


def test_each_weighs_and_costs_what_query_kontext_does() -> None:
    """The published table: parameters within ten per cent, training FLOPs within one."""
    sizes, costs = tables(NAMES)
    assert [row[0] for row in sizes.rows] == ["query-kontext", *NAMES]
    for row in sizes.rows:
        assert abs(float(row[3].rstrip("%")) / 100) <= TOLERANCE, row
        assert 2 * (float(row[2].split()[0]) + 0.607) < 11.95, f"{row[0]}: the checkpoint would not fit 12 MB"
    whole = {row[0]: row for row in costs.rows if row[1] == "all"}
    assert set(whole) == {"query-kontext", *NAMES}
    for row in whole.values():
        assert abs(float(row[5].rstrip("%"))) < 1, row


@pytest.mark.parametrize("name", NAMES)
def test_what_ships_is_what_its_record_tells_of(name: str) -> None:
    """Trained whole from one commit, for Query-Kontext's FLOPs, on the pretraining that all share."""
    shipped = CHECKPOINTS / name
    record, first = (json.loads((CHECKPOINTS / n / "training.json").read_text()) for n in (name, NAMES[0]))
    assert load_model(name).card.weights == weights_digest(shipped) == record["weights_sha256"]
    assert sum(path.stat().st_size for path in shipped.rglob("*")) < 12e6
    assert record["git"]["dirty"] is False
    assert record["command"] == f"qkbench train {name} --preset micro"
    budget = record["budget"]
    assert budget["pretraining_sha256"] == first["budget"]["pretraining_sha256"]
    assert sum(budget["flops"].values()) == pytest.approx(sum(budget["query_kontext_flops"].values()), rel=0.01)
    stages = record["values"]["training"]["stages"]
    assert {stage: stages[stage]["steps"] for stage in budget["flops"]} == {
        stage: round(flops / budget["step_flops"][stage]) for stage, flops in budget["flops"].items()
    }


def sheet(package: str, name: str) -> Any:
    """A sheet of values as it is written."""
    return yaml.safe_load((resources.files(package) / name).read_text("utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_be_query_kontexts_is(name: str) -> None:
    """No value goes stale when Query-Kontext's sheet changes."""
    theirs = sheet("qk_model", "hyperparameters.yaml")["presets"]["micro"]["training"]
    ours = sheet("qk_baselines.trained", "baselines.yaml")["models"][name]["training"]
    shared = 0
    for stage in ours["stages"].values():
        for key, leaf in stage.items():
            if leaf["source"] == "query-kontext":
                assert leaf["value"] in [s[key]["value"] for s in theirs["stages"].values()], (name, key)
                shared += 1
    assert shared > 10
    for key, leaf in ours.items():
        if isinstance(leaf, dict) and leaf.get("source") == "query-kontext":
            assert leaf["value"] == theirs[key]["value"], (name, key)


@pytest.mark.parametrize("name", NAMES)
def test_one_command_leaves_every_model_with_record_and_card(folder: Path, name: str) -> None:
    model = folder / name / "model"
    record = json.loads((model / "training.json").read_text())
    assert record["model"] == name
    assert record["weights_sha256"] == weights_digest(model)
    assert record["budget"]["pretraining_sha256"] == record["values"]["pretraining"]
    stages = record["values"]["training"]["stages"]
    assert all(stages[s]["steps"] == STEPS for s in record["values"]["training"]["schedule"])
    assert record["validation"]["samples"] == 4
    network = load_network(name, model)
    assert "reader" not in record["parameters"] or name.startswith("two-stage")
    in_use = {k: v for k, v in network.parts().items() if v is not None and k not in network.for_training}
    assert sum(record["parameters"].values()) == sum(p.numel() for part in in_use.values() for p in part.parameters())
    card = (model / "README.md").read_text()
    assert record["weights_sha256"] in card
    assert "of training after the pretraining shared with Query-Kontext" in card
    assert str(folder) not in json.dumps(record), "a folder of this machine is in the record"


@pytest.mark.parametrize("name", NAMES)
def test_the_shared_parts_come_from_the_pretraining(folder: Path, pretraining: Path, name: str) -> None:
    pretrained = train.QueryKontext.from_pretrained(pretraining / "after-pretrain-vlm")
    training = load_baseline(name).training
    first = training.schedule[0]
    trained = load_network(name, folder / name / f"after-{first}")
    equal = [torch.equal(a, b) for a, b in zip(trained.vae.parameters(), pretrained.vae.parameters(), strict=True)]
    assert all(equal), "the autoencoder must stay as it is"
    same = [torch.equal(a, b) for a, b in zip(trained.vlm.parameters(), pretrained.vlm.parameters(), strict=True)]
    assert all(same) == ("vlm" not in training.stages[first].trained)


class PowerCut(Exception):
    """What ends a training in the middle."""


@pytest.mark.parametrize("name", NAMES)
def test_a_training_cut_off_in_each_stage_resumes_to_the_same_bits(
    folder: Path, pretraining: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    _, spent = reference(pretraining)
    recipe = plan(name, pretraining, spent, tiny(name), STEPS)
    options = Options("micro", tmp_path, max_steps=STEPS, overrides=tiny(name))
    whole = TrainingBatches.__getitem__

    def cut(self: TrainingBatches, step: int) -> Any:
        if step == STEPS - 1:
            raise PowerCut
        return whole(self, step)

    for stage in recipe.loop.schedule:
        with monkeypatch.context() as patch:
            patch.setattr(TrainingBatches, "__getitem__", cut)
            with pytest.raises(PowerCut):
                loop.run(recipe, dataclasses.replace(options, stage=stage))
        assert list(tmp_path.glob(f"state-{stage}-*"))
        loop.run(recipe, dataclasses.replace(options, stage=stage))
    assert weights_digest(tmp_path / "model") == weights_digest(folder / name / "model")


@pytest.mark.parametrize("name", NAMES)
def test_they_keep_the_promises_of_a_model(folder: Path, tmp_path: Path, name: str) -> None:
    network = load_network(name, folder / name / "model")
    awaken(network)
    network.save_pretrained(tmp_path, torch.bfloat16)
    model = load_model(f"{name}:{tmp_path}", {"batch_size": 3})
    assert model.card.weights == weights_digest(tmp_path)
    samples = [SUITE.tasks["insertion"].sample("val", index, 32) for index in range(3)]
    assert not failures(check_model(model, samples))
    for kind, size in (("generate", 32), ("edit", 48)):
        if kind in model.card.kinds:
            sample = SUITE.tasks["insertion"].sample("val", 0, size)
            job = Job(sample.target_caption, size, size, 1, sample.source if kind == "edit" else None)
            made = answers(model.network, [job])[0]  # type: ignore[attr-defined]
            assert isinstance(made, np.ndarray)
            assert made.shape == (size, size, 3)


def awaken(network: Any) -> None:
    """Give outputs that start at zero something to say, and a reader a sentence that it always writes."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    if getattr(network, "reader", None) is not None and isinstance(network, Network) and network.name != "blip3o":
        speak(network, "nothing becomes small red circle")
    if network.name == "two-stage":
        torch.nn.init.constant_(network.gate.out.bias, 2.0)


@torch.no_grad()
def speak(network: Any, text: str) -> None:
    """Make a reader write one text, whatever it is given."""
    reader = network.reader
    ids = network.tokenizer(text + " [EOS]", add_special_tokens=False)["input_ids"]
    reader.words.weight.zero_()
    reader.places.zero_()
    reader.out.weight.zero_()
    for place, id in enumerate(ids):
        reader.places[place, place] = 100.0
        reader.out.weight[id, place] = 10.0


def edit_jobs(count: int = 3) -> list[Job]:
    samples = [SUITE.tasks["insertion"].sample("val", index, 32) for index in range(count)]
    return [Job(s.instruction, 32, 32, index, s.source) for index, s in enumerate(samples)]


def mute(network: Any) -> None:
    torch.nn.init.zeros_(network.reader.out.weight)
    torch.nn.init.zeros_(network.reader.out.bias)  # the most likely word is then always the first: padding


def blind(network: Any) -> None:
    torch.nn.init.zeros_(network.gate.out.weight)
    torch.nn.init.constant_(network.gate.out.bias, -9.0)
    torch.nn.init.constant_(network.gate.placement.radius.bias[:1], 20.0)  # nothing is drawn anew


def babble(network: Any) -> None:
    speak(network, "the the the")


@pytest.mark.parametrize(
    ("name", "harm", "reason"),
    [
        ("two-stage", mute, "stage ground: the description of the change has no end"),
        ("two-stage", blind, "stage ground: found no region"),
        ("two-stage", babble, "stage ground: 'the the the' describes no change"),
        ("two-stage-generate", mute, "stage describe: the caption has no words or no end"),
    ],
)
def test_a_failure_is_named_after_the_stage_that_failed(
    folder: Path, name: str, harm: Callable[[Any], None], reason: str
) -> None:
    network = load_network(name, folder / name / "model")
    awaken(network)
    harm(network)
    outputs = answers(network, edit_jobs())
    assert all(isinstance(output, Failure) and output.detail.startswith(reason) for output in outputs)


def test_two_stage_keeps_the_sources_own_pixels_outside_the_region(folder: Path) -> None:
    network = load_network("two-stage", folder / "two-stage" / "model")
    awaken(network)
    with torch.no_grad():
        network.gate.out.weight.mul_(50)
        network.gate.out.bias.zero_()
    jobs = edit_jobs()
    with torch.no_grad():
        region, sentences = network.ground(prepare(network, jobs)[0])
    assert sentences == ["nothing becomes small red circle"] * 3
    assert 0 < float(region.mean()) < 1
    for job, where, output in zip(jobs, region, answers(network, jobs), strict=True):
        inside = np.kron(where[0].numpy(), np.ones((4, 4))).astype(bool)
        assert isinstance(output, np.ndarray)
        assert job.source is not None
        assert (output[~inside] == job.source[~inside]).all()
        assert (output[inside] != job.source[inside]).any()


def test_what_is_written_is_what_was_most_likely(folder: Path) -> None:
    """Word by word and all at once give the same, so that training and use agree."""
    network = load_network("two-stage", folder / "two-stage" / "model")
    torch.manual_seed(1)
    torch.nn.init.normal_(network.reader.out.weight, std=1.0)
    query, mask = torch.randn(2, 4, 32), torch.ones(2, 4, dtype=torch.bool)
    written = network.reader.write(query, mask, begin=2, end=3)
    given = torch.cat([torch.full((2, 1), 2), written[:, :-1]], dim=1)
    likely = network.reader.logits(query, mask, given).argmax(dim=-1)
    for row, wanted in zip(written.tolist(), likely.tolist(), strict=True):
        end = row.index(3) + 1 if 3 in row else len(row)
        assert row[:end] == wanted[:end]


def test_captions_and_changes_fit_their_lengths() -> None:
    tokenizer = build_tokenizer()
    for task in SUITE.tasks:
        for index in range(40):
            sample = draw_sample(task, index, 32)
            for text, length in ((sample.target_caption, CAPTION_LENGTH), (answer(sample), CHANGE_LENGTH)):
                ids = tokenizer(framed(text), add_special_tokens=False)["input_ids"]
                assert len(ids) <= length
                assert tokenizer.unk_token_id not in ids


def test_half_the_budget_is_half_the_flops(pretraining: Path) -> None:
    _, spent = reference(pretraining)
    half, whole = (
        sum(plan("two-stage", pretraining, spent, tiny("two-stage") | {"budget_scale": s}).budget["flops"].values())
        for s in (0.5, 1.0)
    )
    assert whole == pytest.approx(sum(spent.values()), rel=0.05)
    assert half == pytest.approx(whole / 2, rel=0.1)


def test_the_estimate_tells_minutes_of_what_is_left(
    pretraining: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, spent = reference(pretraining)
    recipe = plan("two-stage", pretraining, {"1": 100 * sum(spent.values())}, tiny("two-stage"))
    everything = loop.estimate(recipe, recipe.loop.schedule, tmp_path)
    assert "stage ground: " in capsys.readouterr().err
    (tmp_path / "after-ground").mkdir()
    rest = loop.estimate(recipe, recipe.loop.schedule, tmp_path)
    told = capsys.readouterr().err
    assert everything > 0 and rest > 0
    assert "stage ground" not in told
    assert "stage inpaint" in told
    assert "min in all" in told


def test_a_damaged_plan_of_the_pretraining_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "train-query-kontext-micro"
    (folder / "after-pretrain-vlm").mkdir(parents=True)
    for values in ({}, {"pretraining": str(folder)}):
        for content in ("{", "[]"):
            (folder / "plan.json").write_text(content)
            with pytest.raises(UsageError, match=r"plan\.json cannot be read: .* \(restore it"):
                BaselineTrainer().train("micro", stage="all", max_steps=None, out=tmp_path / "x", overrides=values)


def test_mistakes_are_one_line(folder: Path, pretraining: Path, tmp_path: Path) -> None:
    def trained(**values: Any) -> None:
        BaselineTrainer().train("micro", stage="all", max_steps=1, out=tmp_path / "x", overrides=values)

    with pytest.raises(UsageError, match="holds no training of Query-Kontext"):
        trained(pretraining=str(tmp_path))
    with pytest.raises(UsageError, match=r"blip3o has no value model\.dept"):
        trained(**{"pretraining": str(pretraining), "blip3o.model.dept": 3})
    with pytest.raises(UsageError, match="no stages in common"):
        BaselineTrainer().train("micro", stage="ground", max_steps=1, out=tmp_path / "x", overrides={})
    with pytest.raises(UsageError, match="have no preset 'paper'"):
        BaselineTrainer().tables("paper")
    with pytest.raises(UsageError, match=r"config\.json is not the config of a blip3o model"):
        load_model(f"blip3o:{folder / 'two-stage' / 'model'}")
    with pytest.raises(UsageError, match=r"config\.json is not the config of a unified-a model"):
        load_model(f"unified-a:{pretraining / 'after-pretrain-vlm'}")
    with pytest.raises(UsageError, match="num_inference_steps must be a whole number"):
        load_model(f"blip3o:{folder / 'blip3o' / 'model'}", {"num_inference_steps": 0})
    with pytest.raises(UsageError, match="two-stage: there is no "):
        load_model(f"two-stage:{tmp_path}")
    trial = tmp_path / "train-query-kontext-micro"
    shutil.copytree(pretraining, trial)
    plan = json.loads((trial / "plan.json").read_text())
    (trial / "plan.json").write_text(json.dumps(plan | {"max_steps": 20}))
    with pytest.raises(UsageError, match="is a trial of at most 20 steps a stage"):
        BaselineTrainer().train("micro", stage="all", max_steps=None, out=tmp_path / "x", overrides={})
    damaged = tmp_path / "damaged"
    load_network("two-stage", folder / "two-stage" / "model").save_pretrained(damaged)
    (damaged / "weights.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(UsageError, match="is not a folder with a two-stage model"):
        load_network("two-stage", damaged)
