"""`diffusers:…` and `two-stage:A+B`: tiny random pipelines of the real classes, saved to disk, loaded back and run."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import SQUARES, outcomes, qkbench
from qk_baselines.pipeline_files import FORMS, find
from qk_baselines.pipelines import Job

from baselines import tiny_pipelines
from qk_bench.conformance import check_model, failures
from qk_bench.errors import UsageError
from qk_bench.interfaces import Failure, Model
from qk_bench.plugins import find_tasks, load_model
from qk_bench.records import Request, Sample
from qk_bench.run.plan import make_request
from qk_bench.run.worker import answer

PIX2PIX, INPAINT, TEXT = (f"StableDiffusion{name}Pipeline" for name in ("InstructPix2Pix", "Inpaint", ""))
EDITORS = [name for name, form in FORMS.items() if form.takes != "text"]
SMALL = {"num_inference_steps": 2}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "FluxKontextPipeline": {"max_area": 4096, "_auto_resize": False, "max_sequence_length": 64},
    "Flux2Pipeline": {"text_encoder_out_layers": [1], "max_sequence_length": 64},
    "Flux2KleinPipeline": {"text_encoder_out_layers": [1], "max_sequence_length": 64},
}
"""What tiny text encoders need, and what keeps a class from working at a megapixel."""

Saved = Callable[[str], Path]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Folders of tiny pipelines by class, made when first asked for."""
    root = tmp_path_factory.mktemp("pipelines")

    def folder(class_name: str) -> Path:
        path = root / class_name
        return path if path.exists() else tiny_pipelines.save(class_name, path)

    return folder


@pytest.fixture(scope="session")
def sample() -> Sample:
    return find_tasks([f"{SQUARES}/recolour"])[0].task.sample("test", 0, 64)


def loaded(ref: str, **arguments: Any) -> Model:
    model = load_model(ref, arguments)
    model.setup()
    return model


def test_table_names_what_the_classes_take() -> None:
    import diffusers

    for name, form in FORMS.items():
        takes = inspect.signature(getattr(diffusers, name).__call__).parameters
        wanted = {"prompt", "generator", "output_type", *form.defaults}
        wanted |= {form.image} if form.takes != "text" else set()
        wanted |= {"mask_image"} if form.takes == "mask" else set()
        assert wanted <= set(takes), name
        assert ("mask_image" in takes) == (form.takes == "mask"), name


@pytest.mark.slow
def test_every_editor_is_saved_loaded_and_edits_once_through_run(saved: Saved, tmp_path: Path) -> None:
    words: list[str | Path] = []
    for name in EDITORS:
        words += ["--model", ref := f"diffusers:{saved(name)}"]
        for key, value in {**SMALL, "resolution": 64, **ARGUMENTS.get(name, {})}.items():
            words += ["--model-arg", f"{ref}.{key}={json.dumps(value)}"]
    done = qkbench("run", "--task", f"{SQUARES}/recolour", "--limit", "1", "--metric", "success", "--no-page",
                   *words, "--out", tmp_path / "run", timeout=3000)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = {line["model"].partition(":")[2]: line for line in outcomes(tmp_path / "run")}
    assert {name: line["status"] for name, line in lines.items()} == dict.fromkeys(EDITORS, "ok")
    # these resize to about a megapixel or a size of their own, which the outcome tells
    assert all(line["detail"] or (line["width"], line["height"]) == (64, 64) for line in lines.values())
    cards = {model["card"]["name"].partition(":")[2]: model["card"]
             for model in json.loads((tmp_path / "run" / "manifest.json").read_text())["spec"]["models"]}  # fmt: skip
    assert {name for name in EDITORS if cards[name]["uses_region"]} == {n for n in EDITORS if FORMS[n].takes == "mask"}
    assert all(cards[name]["parameters"] > 100_000 and len(cards[name]["weights"]) == 64 for name in EDITORS)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_pipeline_keeps_the_promises_of_a_model(batch_size: int, saved: Saved) -> None:
    task = find_tasks([f"{SQUARES}/recolour"])[0].task
    model = load_model(f"diffusers:{saved(PIX2PIX)}", {**SMALL, "batch_size": batch_size})
    assert failures(check_model(model, [task.sample("test", index, 64) for index in range(2)])) == []


def test_inpainting_gets_our_mask(saved: Saved, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(f"diffusers:{saved(INPAINT)}", **SMALL, resolution=64)
    assert model.card.uses_region
    request = make_request(sample, model.card, 0)
    assert request.region is not None
    seen: dict[str, Any] = {}
    pipeline: Any = model.pipeline._pipeline  # type: ignore[attr-defined]
    call = type(pipeline).__call__

    def spy(self: Any, **arguments: Any) -> Any:
        seen.update(arguments)
        return call(self, **arguments)

    monkeypatch.setattr(type(pipeline), "__call__", spy)
    (output,) = model.generate([request])
    assert answer(output).status == "ok"
    assert np.array_equal(np.asarray(seen["mask_image"]) > 0, request.region.mask)
    assert np.array_equal(np.asarray(seen["image"]), request.source)
    assert seen["prompt"] == request.instruction
    (lacking,) = model.generate([request.model_copy(update={"region": None})])
    assert isinstance(lacking, Failure)
    assert lacking.detail == f"{INPAINT} needs a mask, and the sample has no region query"


def test_resolution_is_where_the_pipeline_works(saved: Saved, sample: Sample) -> None:
    model = loaded(f"diffusers:{saved(PIX2PIX)}", **SMALL, resolution=32)
    (output,) = model.generate([make_request(sample, model.card, 0)])
    assert isinstance(output, np.ndarray)
    assert output.shape == (32, 32, 3)


def test_nan_is_an_invalid_output(saved: Saved, sample: Sample, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(saved(PIX2PIX), folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"] *= float("nan")
    save_file(tensors, weights)
    model = loaded(f"diffusers:{folder}", **SMALL)
    (output,) = model.generate([make_request(sample, model.card, 0)])
    assert isinstance(output, Failure)
    assert (output.status, output.detail) == ("invalid_output", "NaN or infinity in 100% of the values")


def test_weights_and_arguments_are_in_the_card(saved: Saved, tmp_path: Path) -> None:
    one = load_model(f"diffusers:{saved(PIX2PIX)}", {"num_inference_steps": 2}).card
    folder = tmp_path / PIX2PIX
    shutil.copytree(saved(PIX2PIX), folder)
    assert load_model(f"diffusers:{folder}", {"num_inference_steps": 2}).card == one
    assert one.arguments["num_inference_steps"] == 2
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert load_model(f"diffusers:{folder}", {"num_inference_steps": 2}).card.weights != one.weights


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_inference_step": 2}, "takes no argument 'num_inference_step'; did you mean num_inference_steps"),
        ({"prompt": "x"}, "prompt comes from the request"),
        ({"offload": "model"}, "no accelerator to offload from"),
        ({"dtype": "int8"}, "one of: auto, bfloat16, float16, float32"),
        ({"resolution": 3}, "from 16 to 8192"),
        ({"offload": "model", "device_map": "balanced"}, "exclude each other"),
        ({"device": "nowhere"}, r"cannot be put where it shall run: .*nowhere.* \(give another device"),
        ({"device_map": "nowhere"}, r"cannot be loaded as .*nowhere.* or give another device_map\)"),
    ],
)
def test_argument_that_cannot_be_is_one_line(arguments: dict[str, Any], said: str, saved: Saved) -> None:
    with pytest.raises(UsageError, match=said):
        loaded(f"diffusers:{saved(PIX2PIX)}", **arguments)


def test_batches_are_refused_where_a_class_takes_none(saved: Saved) -> None:
    with pytest.raises(UsageError, match="takes one request at a time"):
        load_model(f"diffusers:{saved('FluxKontextPipeline')}", {"batch_size": 2})


def test_missing_repository_is_one_line_that_says_what_to_download(tmp_path: Path) -> None:
    done = qkbench("run", "--task", f"{SQUARES}/recolour", "--model", "diffusers:timbrooks/instruct-pix2pix",
                   "--out", tmp_path / "run")  # fmt: skip
    assert done.returncode == 2
    assert "hf download timbrooks/instruct-pix2pix --local-dir FOLDER" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (None, "there is no .*model_index.json"),
        ("[]", "is not the index of a diffusers pipeline"),
        ("{", "is not the index of a diffusers pipeline"),
        ('{"_class_name": ["pipeline", "Mine"]}', "bring their own code are not run"),
        ('{"_class_name": "FluxContextPipeline"}', "has no pipeline 'FluxContextPipeline'; did you mean"),
        ('{"_class_name": "os"}', "has no pipeline 'os'"),
    ],
)
def test_folder_that_is_no_pipeline_is_one_line(index: str | None, said: str, tmp_path: Path) -> None:
    if index is not None:
        (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(UsageError, match=said):
        load_model(f"diffusers:{tmp_path}")


def test_pickled_weights_are_not_loaded(saved: Saved, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(saved(PIX2PIX), folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UsageError, match=r"cannot be loaded as .* as safetensors"):
        loaded(f"diffusers:{folder}")


def test_repository_in_the_hub_cache_is_found_and_known_by_its_blobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--editor"
    snapshot, blob = repository / "snapshots" / ("a" * 40), repository / "blobs" / ("b" * 64)
    for folder in (snapshot, blob.parent, repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    blob.write_text(json.dumps({"_class_name": PIX2PIX}))
    (snapshot / "model_index.json").symlink_to(blob)
    found = find("some/editor")
    assert (found.name, found.class_name) == ("some/editor", PIX2PIX)
    before = found.digest()
    (snapshot / "model_index.json").unlink()
    (snapshot / "model_index.json").symlink_to(blob.rename(blob.with_name("c" * 64)))
    assert find("some/editor").digest() != before


def edit_request(model: Model, sample: Sample) -> Request:
    return make_request(sample, model.card, 0)


@pytest.mark.parametrize("editor", [PIX2PIX, INPAINT, "Flux2KleinPipeline"])
def test_two_stages_draw_and_then_edit(editor: str, saved: Saved, sample: Sample) -> None:
    more = {f"editor_{key}": value for key, value in ARGUMENTS.get(editor, {}).items()}
    model = loaded(f"two-stage:{saved(TEXT)}+{saved(editor)}", resolution=64, generator_num_inference_steps=2,
                   editor_num_inference_steps=2, **more)  # fmt: skip
    assert model.card.name == f"two-stage:{TEXT}+{editor}"
    request = edit_request(model, sample)
    handed: list[tuple[str, Job]] = []
    stages: dict[str, Any] = model.stages  # type: ignore[attr-defined]
    for stage, pipeline in stages.items():
        make = pipeline.make
        pipeline.make = lambda jobs, stage=stage, make=make: handed.append((stage, jobs[0])) or make(jobs)
    (output,) = model.generate([request])
    assert answer(output).status == "ok"
    (first, drawing), (second, editing) = handed
    assert (first, second, drawing.images) == ("generator", "editor", ())
    assert request.source is not None
    if editor == PIX2PIX:  # it is handed the drawn picture alone
        assert len(editing.images) == 1
        assert not np.array_equal(editing.images[0], request.source)
    elif editor == INPAINT:  # the drawn picture lies in the region, and nowhere else
        assert editing.mask is not None
        changed = (editing.images[0] != request.source).any(axis=2)
        assert changed[editing.mask].any()
        assert not changed[~editing.mask].any()
    else:
        assert np.array_equal(editing.images[0], request.source)
        assert len(editing.images) == 2


def test_failure_names_its_stage(saved: Saved, sample: Sample) -> None:
    model = loaded(f"two-stage:{saved(TEXT)}+{saved(PIX2PIX)}", generator_num_inference_steps=2,
                   editor_guidance_scale="high", resolution=64)  # fmt: skip
    with pytest.raises(RuntimeError, match="stage editor: "):
        model.generate([edit_request(model, sample)])


@pytest.mark.parametrize(
    ("pair", "arguments", "said"),
    [
        ("{edit}+{edit}", {}, "does not draw from text alone"),
        ("{text}+{text}", {}, "takes no image"),
        ("{text}+/nowhere", {}, "there is no folder /nowhere"),
        ("{text}+{edit}", {"num_inference_steps": 2}, "which stage is num_inference_steps for"),
    ],
)
def test_pair_that_is_none_is_one_line(pair: str, arguments: dict[str, Any], said: str, saved: Saved) -> None:
    with pytest.raises(UsageError, match=said):
        load_model("two-stage:" + pair.format(text=saved(TEXT), edit=saved(PIX2PIX)), arguments)


def test_bare_name_or_folder_is_the_pair_trained_here(tmp_path: Path) -> None:
    assert load_model("two-stage").card.name == "two-stage"
    with pytest.raises(UsageError, match=r"there is no .*config\.json"):
        load_model(f"two-stage:{tmp_path}")
