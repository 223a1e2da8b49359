"""On an accelerator everything is where the model is, and what the libraries' classes hold frozen is in bf16.

The device `meta` stands for one: what is there has a shape, a type and no values, and goes with nothing of the CPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator, PartialState
from qk_model import loop, stages
from qk_model.config import Preset, load_preset
from qk_model.data import TrainingBatches, to_device
from qk_model.infer import Job, make, prepare
from qk_model.model import QueryKontext
from qk_model.train import Options, QueryKontextRecipe
from qk_model.vae import LeanVAE
from qk_tasks.scenes import SUITE
from tiny_presets import LEAN, LIBRARY

META = torch.device("meta")


def jobs(side: int) -> list[Job]:
    samples = [SUITE.tasks["removal"].sample("test", index, side) for index in range(2)]
    return [Job(s.instruction, side, side, number, s.source, region=s.region) for number, s in enumerate(samples)]


def test_a_request_goes_to_the_models_device_whole(lean: Preset) -> None:
    model = QueryKontext(lean.model).to(META)
    batch, noise = prepare(model, jobs(48), region="box")
    scene = model.look(batch, model.understand(batch))
    assert scene.gate is not None
    assert scene.gate.device == noise.device == batch.images[0].device == batch.region.place.device == META


@pytest.mark.parametrize("name", ["pretrain-vae", "1", "3"])
def test_a_step_stays_on_the_models_device(lean: Preset, name: str) -> None:
    stage, model = lean.training.stages[name], QueryKontext(lean.model)
    stages.prepare(model, lean, stage)
    dataset = TrainingBatches(lean.model, stage, name, 0, model.tokenizer)
    model.to(META)
    for step in range(stage.steps):
        assert model(to_device(dataset[step], META), stage, 0)["loss"].device == META


@pytest.mark.filterwarnings("ignore:for .*no-op:UserWarning")
def test_a_stage_is_on_its_device_when_it_begins_and_when_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**LIBRARY, "training.mixed_precision": "bf16"}
    recipe, options = QueryKontextRecipe(load_preset("micro", values)), Options("micro", tmp_path, overrides=values)
    accelerator = Accelerator()
    loop._Run(recipe, "1", options, accelerator)._save_state(2, 60.0)
    accelerator.free_memory()
    accelerator._custom_objects.clear()
    for state in (PartialState(), accelerator.state):  # the latter is made anew from the former at times
        monkeypatch.setattr(state, "device", META)
    stage = loop._Run(recipe, "1", options, accelerator)
    assert {p.device for p in (*stage.model.parameters(), *stage.ema.shadow_params)} == {META}
    assert {p.dtype for p in stage.trained} == {torch.float32}
    assert {p.dtype for p in stage.model.vae.parameters()} == {torch.bfloat16}
    assert stage._resume() == (2, 60.0)
    assert {p.device for p in stage.ema.shadow_params} == {META}
    accelerator.free_memory()
    accelerator._custom_objects.clear()


def test_the_autoencoder_is_standardised_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = QueryKontextRecipe(load_preset("micro", LEAN))
    model = recipe.make()
    prepared = recipe.prepare(model, "pretrain-vae")
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(LeanVAE, "standardise", lambda self, pixels: seen.append(pixels))
    recipe.finish(model.to(META), "pretrain-vae", prepared, recipe.dataset(model, "pretrain-vae"))
    assert [pixels.device for pixels in seen] == [META]


def test_library_classes_in_bf16_make_the_same_picture(library: Preset) -> None:
    model = QueryKontext(library.model).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
        parameter.copy_(parameter.bfloat16())  # as a saved model has them
    with torch.autocast("cpu", torch.bfloat16):
        before = make(model, jobs(32))
        model.lighten()
        after = make(model, jobs(32))
    assert {p.dtype for part in (model.vlm, model.vae, model.mmdit) for p in part.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.connector.parameters()} == {torch.float32}
    for one, other in zip(before, after, strict=True):
        assert np.abs(one.image.astype(int) - other.image).mean() < 2


@pytest.mark.parametrize("name", ["1", "2", "3"])
def test_a_stage_trains_beside_library_classes_in_bf16(library: Preset, name: str) -> None:
    stage, model = library.training.stages[name], QueryKontext(library.model)
    adapters = stages.prepare(model, library, stage)
    model.lighten()
    batch = TrainingBatches(library.model, stage, name, 0, model.tokenizer)[0]
    with torch.autocast("cpu", torch.bfloat16):
        model(batch, stage, 0)["loss"].backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in model.vae.parameters()} == {torch.bfloat16}
    gradients = [p.grad for p in trained if p.grad is not None]
    assert len(gradients) > len(trained) / 2 and all(torch.isfinite(g).all() for g in gradients)
    stages.finish(model, adapters)
    assert len(make(model.float().eval(), jobs(32))) == 2
