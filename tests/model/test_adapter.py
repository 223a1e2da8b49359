"""The model as the harness and the command line see it."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import torch
import yaml
from qk_model.adapter import SHIPPED, QueryKontextEditor
from qk_model.config import PRESETS, Preset, load_preset
from qk_model.digest import weights_digest
from qk_model.model import QueryKontext
from qk_model.parameters import _memory, count, tables
from qk_tasks.scenes import SUITE
from typer.testing import CliRunner

from qk_bench.cli import app
from qk_bench.conformance import check_model
from qk_bench.errors import UsageError
from qk_bench.images import read_pixels
from qk_bench.plugins import load_model, load_trainer

ARTICLE = ("article-color-success", "article-removal-success", "article-layout-success")


@pytest.fixture
def folder(lean: Preset, tmp_path: Path) -> Path:
    """A saved model whose zero-initialised outputs have been given something to say."""
    torch.manual_seed(0)
    model = QueryKontext(lean.model)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    assert model.gate is not None
    torch.nn.init.constant_(model.gate.out.bias, 2.0)
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("region", ["none", "box"])
def test_it_keeps_the_promises_of_a_model(folder: Path, region: str) -> None:
    model = load_model(f"query-kontext:{folder}", {"region": region, "batch_size": 3})
    assert model.card.uses_region == (region != "none")
    samples = [SUITE.tasks["insertion"].sample("val", index, 32) for index in range(3)]
    failed = [check for check in check_model(model, samples) if not check.passed]
    assert not failed


def test_the_card_pins_weights_and_arguments(folder: Path) -> None:
    model = QueryKontextEditor(str(folder), num_inference_steps=3)
    assert model.card.weights == weights_digest(folder)
    assert model.card.arguments["num_inference_steps"] == 3


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_what_its_record_tells_of(name: str) -> None:
    model = QueryKontextEditor(name)
    record = json.loads((SHIPPED[name] / "training.json").read_text())
    assert model.card.weights == record["weights_sha256"] and not record["git"]["dirty"]
    assert model.card.name == (f"query-kontext:{name}" if name else "query-kontext")
    assert record["preset"] == (name or "micro") and f"preset {record['preset']}" in model.card.description


@pytest.mark.parametrize("content", [None, "{", "{}", "[1]"])
def test_a_folder_that_is_no_model_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError, match=r"config\.json"):
        QueryKontextEditor(str(tmp_path))


def test_bad_arguments_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="region"):
        QueryKontextEditor(str(folder), region="circle")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least 1"):
        QueryKontextEditor(str(folder), num_inference_steps=0)


def test_a_contact_sheet_is_written(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures" / "sheet.png"
    words = [
        "sheet",
        f"query-kontext:{folder}",
        "--task",
        "edit",
        "--limit",
        "2",
        "--resolution",
        "32",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert read_pixels(out).shape[0] > 4 * 128


def test_parameters_agree_with_the_published_sizes() -> None:
    paper = count(load_preset("paper"))
    assert paper["mmdit"] == pytest.approx(10e9, rel=0.02)
    assert paper["head"] == pytest.approx(870e6, rel=0.03)
    assert paper["connector"] == pytest.approx(50e6, rel=0.01)
    assert paper["vlm"] == pytest.approx(7.7e9, rel=0.02)  # without the language head
    assert paper["gate"] == pytest.approx(6.2e6, rel=0.05)


def test_the_micro_checkpoint_stays_within_its_size() -> None:
    micro = count(load_preset("micro"))
    assert 2 * sum(n for part, n in micro.items() if part != "head") < 12e6


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_its_tables(name: str) -> None:
    parts, memory, tokens = tables(name)
    assert {row[0] for row in parts.rows} == {*count(load_preset(name)), "in use"}
    assert [row[0] for row in memory.rows] == [
        "inference",
        *(f"stage {s}" for s in load_preset(name).training.schedule),
    ]
    assert len(tokens.rows) == 2


def test_memory_is_that_of_the_weights_as_they_are_held(library: Preset) -> None:
    sizes = {name: part for name, part in count(library).items() if name != "head"}
    halves = dict.fromkeys(("vlm", "vae", "mmdit"), 2)  # bytes a frozen parameter; of others 4, and 20 of a trained one
    trained = dict.fromkeys(library.training.stages["2"].trained, 20)
    inference, _, second, _ = _memory(library).rows
    assert inference[3] == f"{sum(n * halves.get(name, 4) for name, n in sizes.items()) / 1e6:.2f} MB"
    assert second[3] == f"{sum(n * (halves | trained).get(name, 4) for name, n in sizes.items()) / 1e6:.2f} MB"
    assert inference[5] == "-"
    assert float(second[5].split()[0]) < 0.7 * float(second[3].split()[0])  # a share of 8, and what is gathered
    micro = count(load_preset("micro"))
    assert tables("micro")[1].rows[0][3] == f"{4 * (sum(micro.values()) - micro['head']) / 1e6:.2f} MB"


def test_counting_allocates_nothing() -> None:
    result = CliRunner().invoke(app, ["show", "query-kontext", "--preset", "paper", "--format", "json"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    assert any(row["parameters"].startswith("10.0") for row in shown[0]["rows"])


def test_tables_in_a_pipe_are_whole() -> None:
    result = CliRunner().invoke(app, ["show", "query-kontext", "--preset", "base"])
    assert result.exit_code == 0, result.output
    assert "FluxTransformer2DModel" in result.output and "…" not in result.output


def test_the_page_has_the_figures_that_its_commands_print_and_that_the_article_states() -> None:
    page = (Path(__file__).parents[2] / "docs" / "micro-model.md").read_text("utf-8")
    second = next(row for row in tables("base")[1].rows if row[0] == "stage 2")
    whole, each = (f"{float(cell.removesuffix(' GB')):.0f} GB" for cell in (second[3], second[5]))
    assert f"Stage 2 of base, {whole} before activations by `qkbench show`, comes down to {each}" in page
    claims = yaml.safe_load((resources.files("qk_model") / "claims.yaml").read_text("utf-8"))["claims"]
    stated = {c["says"]["task"]: c["says"]["value"] for c in claims if c["id"] in ARTICLE}
    (row,) = (line.split("|")[2:6] for line in page.splitlines() if line.startswith("| the article's figures"))
    tasks = ("color_swap", "removal", "insertion", "layout")
    assert [cell.strip() for cell in row] == [f"{100 * stated[t]:.1f} %" if t in stated else "" for t in tasks]


def test_an_unknown_preset_is_one_line() -> None:
    with pytest.raises(UsageError, match="no preset 'huge'"):
        load_trainer("query-kontext").tables("huge")
