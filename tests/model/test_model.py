"""The network: what the gate carries, what the switches switch, what is saved and loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from qk_model import flow, stages, vae
from qk_model.config import Part, Preset, load_preset
from qk_model.data import TrainingBatches, to_pixels
from qk_model.infer import Job, Made, make
from qk_model.mmdit import FluxMMDiT, LeanMMDiT
from qk_model.model import QueryKontext, Scene
from qk_model.positions import reference_positions, sincos, source_positions, target_positions
from qk_model.trunk import Batch
from qk_model.vlm import LeanVLM, QwenVLM
from qk_tasks.scenes import SUITE
from tiny_presets import LEAN, LIBRARY

from qk_bench.errors import UsageError


def test_positions_are_shifted_as_the_paper_says() -> None:
    assert target_positions(2, 3).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert source_positions(2, 3).tolist()[-1] == [-1, -2]
    assert reference_positions(2, 3, 2).tolist()[0] == [4, 6]
    assert source_positions(4, 4, stride=2).tolist() == [[-0.5, -0.5], [-0.5, -2.5], [-2.5, -0.5], [-2.5, -2.5]]


def test_a_source_token_shares_its_absolute_embedding_with_the_target_token_it_mirrors() -> None:
    assert torch.equal(sincos(target_positions(3, 3), 32), sincos(source_positions(3, 3), 32))


def test_the_sampler_reaches_what_a_perfect_estimate_says(lean: Preset) -> None:
    clean, start = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4)
    for scheduler in ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"):
        config = dataclasses.replace(lean.model.flow, scheduler=scheduler)
        assert torch.allclose(flow.sample(config, start, lambda x, sigma: clean, 4), clean, atol=1e-3)


def test_velocity_and_sample_predictions_mean_the_same(lean: Preset) -> None:
    clean, start, sigma = torch.randn(2, 4, 4, 4), torch.randn(2, 4, 4, 4), torch.tensor([0.3, 0.9])
    x = flow.mix(clean, start, sigma)
    velocity = dataclasses.replace(lean.model.flow, prediction="velocity")
    assert torch.allclose(flow.to_clean(velocity, start - clean, x, sigma), clean, atol=1e-5)


@pytest.mark.parametrize("mode", ["edit", "generate", "compose"])
def test_every_mode_makes_an_image_of_the_size_asked_for(preset: Preset, mode: str) -> None:
    made = _make(QueryKontext(preset.model).eval(), mode, 48)
    assert [m.image.shape for m in made] == [(48, 48, 3)] * 2
    assert (made[0].gate is not None) == (mode == "edit")


@pytest.mark.parametrize("size", [(112, 144), (144, 112), (160, 96)])
def test_pictures_of_any_proportions_are_edited(size: tuple[int, int]) -> None:
    """Three to four and near it: one side is that of the VLM's square, the other no multiple of its patches."""
    preset = load_preset("micro", {**LIBRARY, "model.vlm_resolution": 112, "model.resolution": 128})
    model = QueryKontext(preset.model).eval()
    source = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    (edited,) = make(model, [Job("remove the red circle", *size, 1, source)], steps=1)
    assert edited.image.shape == source.shape


def test_a_closed_gate_returns_the_source_to_the_byte(preset: Preset) -> None:
    model = QueryKontext(preset.model).eval()
    assert model.gate is not None
    torch.nn.init.zeros_(model.gate.out.weight)
    torch.nn.init.constant_(model.gate.out.bias, -20.0)
    if model.gate.placement is not None:
        torch.nn.init.constant_(model.gate.placement.radius.bias[:1], 20.0)  # nothing is drawn anew
    sample = SUITE.tasks["removal"].sample("test", 0, 48)
    made = _make(model, "edit", 48)
    assert np.array_equal(made[0].image, sample.source)
    assert float(made[0].gate.max()) == 0.0  # type: ignore[union-attr]


def test_a_batch_is_a_set_of_independent_requests(preset: Preset) -> None:
    model = QueryKontext(preset.model).eval()
    _open_up(model)
    one, other = _jobs("edit", 32)
    together = make(model, [one, other])
    swapped = make(model, [other, one])
    assert np.array_equal(together[0].image, swapped[1].image)
    assert not np.array_equal(together[0].image, make(model, [dataclasses.replace(one, seed=99), other])[0].image)


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("model.kontext.enabled", False),
        ("model.gate.enabled", False),
        ("model.low_level.enabled", False),
        ("model.region.enabled", False),
        ("model.fusion_depth", 1),
        ("training.stages.3.query_ratio", 1.0),
        ("training.schedule", ["pretrain-vae", "pretrain-vlm", "3"]),
    ],
)
def test_every_ablation_switch_trains_and_edits(switch: str, value: object) -> None:
    preset = load_preset("micro", {**LEAN, switch: value})
    stage = preset.training.stages["3"]
    model = QueryKontext(preset.model)
    adapters = stages.prepare(model, preset, stage)
    batch = TrainingBatches(preset.model, stage, "3", 0, model.tokenizer)[0]
    losses = model(batch, stage, 0)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    stages.finish(model, adapters)
    assert len(_make(model.eval(), "edit", 32)) == 2


def test_what_is_switched_off_is_not_there() -> None:
    off = {"model.gate.enabled": False, "model.low_level.enabled": False, "model.kontext.enabled": False}
    model = QueryKontext(load_preset("micro", {**LEAN, **off}).model)
    assert model.gate is None
    assert model.low_level is None
    assert model.tokens.queries.numel() == 0


@pytest.mark.parametrize(
    ("switch", "off"),
    [
        ("model.low_level.aligned", False),
        ("model.low_level.residual", False),
        ("model.gate.shown", False),
        ("model.gate.placements", 0),
    ],
)
def test_what_stands_beside_the_noise_must_fit_the_denoiser(switch: str, off: Any) -> None:
    with pytest.raises(UsageError, match=r"makes tokens of 20 channels from 88, the target's have \d+ and \d+ \(set"):
        QueryKontext(load_preset("micro", {**LEAN, switch: off}).model)


def test_what_stands_beside_the_noise_must_fit_the_head_of_stage_1() -> None:
    preset = load_preset("micro", {**LEAN, "model.head.arguments": {**LEAN["model.head.arguments"], "in_channels": 20}})
    with pytest.raises(UsageError, match="the head makes tokens of"):
        stages.prepare(QueryKontext(preset.model), preset, preset.training.stages["1"])


def test_source_tokens_are_made_of_whole_target_tokens() -> None:
    with pytest.raises(UsageError, match="source_patch is 3, patch is 2"):
        load_preset("micro", {**LEAN, "model.low_level.source_patch": 3})


def test_what_it_puts_out_is_added_to_the_source_where_its_mask_is_open(lean: Preset) -> None:
    model = QueryKontext(lean.model)
    x, source, own = (torch.randn(2, 4, 8, 8) for _ in range(3))
    mask = torch.full((2, 1, 8, 8), -20.0)
    mask[:, :, :4] = 20.0
    output, sigma = torch.cat([own, mask], dim=1), torch.full((2,), 0.5)
    clean = model.clean(output, x, sigma, source)
    assert torch.allclose(clean[:, :, :4], (source + own)[:, :, :4])
    assert torch.allclose(clean[:, :, 4:], source[:, :, 4:])
    assert torch.equal(model.clean(output, x, sigma, None), own)  # no source is seen


def test_where_what_it_adds_is_nothing_the_source_stays(lean: Preset) -> None:
    model = QueryKontext(lean.model).eval()
    assert isinstance(model.mmdit, LeanMMDiT)
    torch.nn.init.zeros_(model.mmdit.out.bias)  # the weights are zero already
    context, mask = torch.randn(1, 3, 32), torch.ones(1, 3, dtype=torch.bool)
    source, gate = torch.randn(1, 4, 8, 8), torch.zeros(1, 1, 8, 8)
    gate[:, :, 2:4, 2:4] = 1  # half of the tokens are denoised, the rest not
    scene = Scene(source, (), gate)
    sigma = torch.full((1,), 0.5)
    assert torch.equal(model.estimate(torch.randn(1, 4, 8, 8), sigma, context, mask, scene, low_level=True), source)


def test_the_source_is_seen_in_channels_only_where_its_tokens_are(lean: Preset) -> None:
    gate = dataclasses.replace(lean.model.gate, share=1.0)  # else the source stands where nothing is denoised
    model = QueryKontext(dataclasses.replace(lean.model, gate=gate)).eval()
    _open_up(model)
    context, mask = torch.randn(2, 3, 32), torch.ones(2, 3, dtype=torch.bool)
    x, sigma = torch.randn(2, 4, 8, 8), torch.full((2,), 0.5)
    one, other = (Scene(torch.randn(2, 4, 8, 8), (), torch.ones(2, 1, 8, 8)) for _ in range(2))

    def estimate(scene: Scene, low_level: bool) -> torch.Tensor:
        return model.estimate(x, sigma, context, mask, scene, low_level=low_level)

    assert torch.equal(estimate(one, False), estimate(other, False))
    assert not torch.equal(estimate(one, True), estimate(other, True))
    model.low_level = None  # no tokens, by ablation: nothing of the source at all
    assert torch.equal(estimate(one, True), estimate(other, True))


def test_only_the_tokens_under_the_open_gate_and_around_it_are_denoised(lean: Preset) -> None:
    model = QueryKontext(lean.model).eval()  # 4 x 4 tokens of 2 x 2 latents, of which half
    _open_up(model)
    context, mask = torch.randn(1, 3, 32), torch.ones(1, 3, dtype=torch.bool)
    x, source, gate = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.zeros(1, 1, 8, 8)
    gate[:, :, 2:4, 2:4] = 1  # one token, and what is within two latents of it: eight more
    scene = Scene(source, (), gate)
    estimate = model.estimate(x, torch.full((1,), 0.5), context, mask, scene, low_level=False)
    drawn = F.max_pool2d((estimate != source).float().amax(dim=1), 2)[0] > 0
    assert drawn.sum() == 8
    assert drawn[1, 1] and not drawn[3].any() and not drawn[:, 3].any()


def test_a_token_that_is_not_there_changes_nothing(lean: Preset) -> None:
    model = QueryKontext(lean.model).eval()
    _open_up(model)
    assert isinstance(model.mmdit, LeanMMDiT)
    tokens, places = torch.randn(1, 5, 88), torch.rand(1, 5, 2)
    context, mask, sigma = torch.randn(1, 3, 32), torch.ones(1, 3, dtype=torch.bool), torch.full((1,), 0.5)
    present = torch.tensor([[True, True, True, False, False]])
    out = model.mmdit(tokens, places, context, mask, sigma, present=present)
    alone = model.mmdit(tokens[:, :3], places[:, :3], context, mask, sigma)
    assert torch.allclose(out[:, :3], alone, atol=1e-6)


def test_the_gate_learns_from_the_mask_where_there_is_one_and_from_the_flow_where_there_is_none(lean: Preset) -> None:
    stage = dataclasses.replace(lean.training.stages["3"], query_ratio=1.0, trained=("gate", "mmdit"), gate_weight=0.0)
    model = QueryKontext(lean.model)
    stages.prepare(model, lean, stage)
    _open_up(model)
    batch = TrainingBatches(lean.model, stage, "3", 0, model.tokenizer)[0]
    assert model.gate is not None

    def learns(batch: Batch) -> bool:
        model.zero_grad()
        model(batch, stage, 0)["loss"].backward()
        return bool(model.gate.out.weight.grad.abs().sum() > 0)  # type: ignore[union-attr]

    assert not learns(batch)
    assert learns(batch._replace(edit_mask=None))


@pytest.mark.parametrize(("key", "value"), [("fusion_depth", 1), ("gate.share", 0.5)])
def test_a_switch_of_the_lean_block_is_refused_where_it_would_be_ignored(key: str, value: float) -> None:
    with pytest.raises(UsageError, match=key):
        load_preset("micro", {**LIBRARY, f"model.{key}": value})


@pytest.mark.parametrize("form", ["box", "mask", "point"])
def test_a_region_query_changes_what_the_model_does(lean: Preset, form: Any) -> None:
    model = QueryKontext(lean.model).eval()
    _open_up(model)
    jobs = _jobs("edit", 32)
    assert not np.array_equal(make(model, jobs, region=form)[0].image, make(model, jobs)[0].image)


def test_a_saved_model_loads_and_gives_the_same_pixels(preset: Preset, tmp_path: Path) -> None:
    model = QueryKontext(preset.model).eval()
    _open_up(model)
    model.save_pretrained(tmp_path / "model")
    loaded = QueryKontext.from_pretrained(tmp_path / "model")
    assert np.array_equal(_make(model, "edit", 32)[0].image, _make(loaded, "edit", 32)[0].image)


def test_real_checkpoints_are_loaded_by_name_as_these_tiny_ones_are(library: Preset, tmp_path: Path) -> None:
    """Tiny random folders of the real classes, saved by their libraries, start a model as hub names would."""
    made = QueryKontext(library.model)
    assert isinstance(made.vlm, QwenVLM)
    assert isinstance(made.mmdit, FluxMMDiT)
    made.vlm.model.save_pretrained(tmp_path / "qwen")
    made.mmdit.model.save_pretrained(tmp_path / "flux" / "transformer")
    made.vae.save_pretrained(tmp_path / "flux" / "vae")
    made.tokenizer.save_pretrained(tmp_path / "qwen")
    names = {
        "model.vlm.pretrained": str(tmp_path / "qwen"),
        "model.tokenizer": str(tmp_path / "qwen"),
        "model.mmdit.pretrained": f"{tmp_path / 'flux'}#transformer",
        "model.vae.pretrained": f"{tmp_path / 'flux'}#vae",
    }
    loaded = QueryKontext(load_preset("micro", {**LIBRARY, **names}).model)
    for name in ("vlm", "mmdit", "vae"):
        pairs = zip(getattr(made, name).parameters(), getattr(loaded, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), name


@pytest.mark.parametrize("block", ["vlm", "vae", "mmdit"])
def test_a_checkpoint_that_is_not_there_is_one_line_with_the_mend(block: str, tmp_path: Path) -> None:
    values = {**LIBRARY, f"model.{block}.pretrained": str(tmp_path / "nowhere")}
    with pytest.raises(UsageError, match=rf"nowhere.*--set model\.{block}\.pretrained=FOLDER") as caught:
        QueryKontext(load_preset("micro", values).model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["empty", "no weights", "cut", "another size"])
def test_a_damaged_folder_is_one_line(lean: Preset, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    QueryKontext(lean.model).save_pretrained(folder)
    if damage == "empty":
        (folder / "config.json").unlink()
    elif damage == "no weights":
        (folder / "mmdit" / "diffusion_pytorch_model.safetensors").unlink()
    elif damage == "another size":
        path = folder / "config.json"
        path.write_text(path.read_text().replace('"num_queries": 4', '"num_queries": 9'))
    else:
        path = folder / "kontext.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UsageError, match="not a folder with a Query-Kontext model") as caught:
        QueryKontext.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_stages_free_the_parts_of_the_paper_and_merging_changes_nothing(preset: Preset) -> None:
    model = QueryKontext(preset.model).eval()
    before = {name: [p.clone() for p in part.parameters()] for name, part in model.parts().items() if part is not None}
    adapters = stages.prepare(model, preset, preset.training.stages["1"])
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    assert any("lora_" in name and name.startswith("vlm.") for name in free)
    assert all("lora_" in name for name in free if name.startswith("vlm."))
    assert {name.split(".")[0] for name in free} == {"vlm", "head", "connector", "tokens", "gate"}
    assert model.head is not None
    stages.finish(model, adapters)  # untrained adapters are zero
    assert model.head is None
    for name, values in before.items():
        part = getattr(model, name)
        assert all(torch.equal(a, b) for a, b in zip(values, part.parameters(), strict=True)), name


def test_words_that_are_padding_do_not_matter(lean: Preset) -> None:
    vlm = QueryKontext(lean.model).eval().vlm
    assert isinstance(vlm, LeanVLM)
    image, extra = torch.randn(1, 3, 32, 32), torch.randn(1, 4, 32)
    mask = torch.tensor([[True, True, False, False]])
    with torch.no_grad():
        a = vlm([image], torch.tensor([[5, 6, 7, 8]]), mask, extra)
        b = vlm([image], torch.tensor([[5, 6, 9, 9]]), mask, extra)
    assert torch.allclose(a.extra, b.extra, atol=1e-6)


def test_the_autoencoder_standardises_its_latents(lean: Preset) -> None:
    autoencoder = vae.make_vae(lean.model.vae)
    assert isinstance(autoencoder, vae.LeanVAE)
    pixels = _scenes(8)
    autoencoder.start_from_components(pixels)
    autoencoder.standardise(pixels)
    latents = vae.encode(autoencoder, pixels)
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert float(latents.var(dim=(0, 2, 3)).mean()) == pytest.approx(1.0, abs=1e-3)
    raw = autoencoder.from_raw(autoencoder.to_mean(pixels))
    assert torch.allclose(vae.decode(autoencoder, latents), raw, atol=1e-4)


def test_the_autoencoder_starts_at_the_error_of_the_principal_components() -> None:
    pixels = _scenes(16)
    errors = {}
    for channels in (4, 24, 48):
        autoencoder = vae.LeanVAE(latent_channels=channels, width=8, encoder_depth=1, decoder_depth=1)
        autoencoder.start_from_components(pixels)
        errors[channels] = float(((autoencoder.from_raw(autoencoder.to_mean(pixels)) - pixels) ** 2).mean())
    assert errors[4] > 4 * errors[24] > 0
    assert errors[48] < 1e-8


def test_a_part_names_its_class() -> None:
    assert vae.kind(Part("lean", "", {})) is vae.LeanVAE


def _scenes(count: int) -> torch.Tensor:
    sources = [SUITE.tasks["layout"].sample("val", index, 32).source for index in range(count)]
    return to_pixels([source for source in sources if source is not None])


def _jobs(mode: str, side: int) -> list[Job]:
    samples = [SUITE.tasks["removal"].sample("test", index, side) for index in range(2)]
    return [
        Job(
            instruction=s.instruction,
            width=side,
            height=side,
            seed=number,
            source=s.source if mode == "edit" else None,
            references=(s.source, s.target) if mode == "compose" else (),  # type: ignore[arg-type]
            region=s.region,
        )
        for number, s in enumerate(samples)
    ]


def _make(model: QueryKontext, mode: str, side: int) -> list[Made]:
    return make(model, _jobs(mode, side))


def _open_up(model: QueryKontext) -> None:
    """Give a fresh model's zero-initialised outputs something to say, so that its inputs show in its output."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    assert model.gate is not None
    torch.nn.init.constant_(model.gate.out.bias, 2.0)
