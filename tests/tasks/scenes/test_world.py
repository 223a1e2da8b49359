"""The scenes suite: purity, exact answers, unambiguous instructions, disjoint splits."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from qk_tasks import photographs
from qk_tasks.scenes import SUITE, grammar, sampler
from qk_tasks.scenes.edits import misplaced
from qk_tasks.scenes.lab import to_lab
from qk_tasks.scenes.render import coverage, render
from qk_tasks.scenes.sampler import SPLITS, draw
from qk_tasks.scenes.world import COLOURS, HELD_OUT, SHAPES, Obj, Scene
from skimage.color import rgb2lab

from qk_bench.conformance import check_task, failures
from qk_bench.errors import UsageError
from qk_bench.plugins import find_tasks
from qk_bench.records import pixels_digest

TASKS = list(SUITE.tasks)

# Digests of rendered samples (index 0 of the test split at 64 px). Whoever has to change them changes the suite: raise
# VERSION in suite.py with them, or results of the two will be compared as if they were the same.
GOLDEN = {
    "color_swap": "c3b50ae370b99166",
    "insertion": "bf2105f51ebbe88e",
    "removal": "9e202ae97683fda4",
    "layout": "6bd0c6cf87ff6970",
    "structural": "dafb2b7756960505",
    "composition": "8583e383fae0ea6c",
}


@pytest.mark.parametrize("task", TASKS)
def test_samples_are_those_of_this_suite_version(task: str) -> None:
    sample = SUITE.tasks[task].sample("test", 0, 64)
    assert pixels_digest(np.stack([sample.source, sample.target]))[:16] == GOLDEN[task]


@pytest.mark.parametrize("task", TASKS)
def test_tasks_keep_the_promises_of_every_task(task: str) -> None:
    assert failures(check_task(find_tasks([f"scenes/{task}"])[0], count=4)) == []


def test_samples_are_the_same_in_another_process() -> None:
    code = (
        "from qk_tasks.scenes import SUITE\n"
        "for t in SUITE.tasks.values():\n"
        "    for i in range(12): print(t.sample('val', i, 48).model_dump_json())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = [t.sample("val", i, 48).model_dump_json() for t in SUITE.tasks.values() for i in range(12)]
    assert other.splitlines() == here


def test_a_sample_does_not_depend_on_what_was_drawn_before() -> None:
    task = SUITE.tasks["layout"]
    forward = [task.sample("test", i, 32).model_dump_json() for i in range(20)]
    backward = [task.sample("test", i, 32).model_dump_json() for i in reversed(range(20))]
    assert forward == backward[::-1]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", TASKS)
def test_every_instruction_has_exactly_one_reading(task: str, split: str) -> None:
    for index in range(250):
        item = draw("scenes-1", split, task, index)
        readings = grammar.read(item.source, item.instruction)
        assert len(readings) == 1, (item.instruction, readings)
        assert readings[0].operation == item.operation
        slots = dict(readings[0].slots)
        for edit, prefix in zip(item.edits, ("first.", "second.") if len(item.edits) == 2 else ("",), strict=True):
            if not edit.operation.startswith("insert"):
                assert slots[f"{prefix}x"] in edit.edited
            for slot in ("colour", "shape", "size", "place"):
                if f"{prefix}{slot}" in slots:
                    assert slots[f"{prefix}{slot}"] == getattr(edit, slot)


def test_the_reader_notices_an_ambiguous_instruction() -> None:
    item = draw("scenes-1", "test", "removal", 0)
    twins = Scene(item.source.background, (
        Obj(0, "circle", "red", "small", 0.2, 0.2, 0.085), Obj(1, "circle", "red", "small", 0.8, 0.8, 0.085),
    ))  # fmt: skip
    assert len(grammar.read(twins, "remove the red circle")) == 2
    assert len(grammar.read(twins, "remove the circle in the top left part")) == 1
    assert grammar.read(twins, "remove the blue circle") == []


def test_a_place_that_could_belong_to_either_object_is_ambiguous() -> None:
    background = draw("scenes-1", "test", "removal", 0).source.background
    scene = Scene(background, (
        Obj(0, "star", "red", "small", 0.2, 0.2, 0.085), Obj(1, "ring", "blue", "small", 0.8, 0.8, 0.085),
    ))  # fmt: skip
    assert len(grammar.read(scene, "add a green circle below the star")) == 1
    assert len(grammar.read(scene, "add a green circle below the star in the top left part")) == 2
    assert len(grammar.read(scene, "move the ring so that it is below the star to the left of the blue ring")) == 2


def test_an_object_is_not_described_by_another_that_has_a_twin() -> None:
    background = draw("scenes-1", "test", "removal", 0).source.background
    scene = Scene(background, (
        Obj(0, "square", "red", "small", 0.2, 0.5, 0.085), Obj(1, "square", "red", "small", 0.8, 0.5, 0.085),
    ))  # fmt: skip
    assert not grammar.means(scene, "the square to the left of the red square", scene.get(0))
    assert grammar.means(scene, "the square in the middle left part", scene.get(0))


def test_every_operation_has_eight_phrasings_and_held_out_ones_apart() -> None:
    for operation, phrasings in grammar.PHRASINGS.items():
        assert len(set(phrasings)) >= 8
        assert not set(phrasings) & set(grammar.HELD_OUT_PHRASINGS[operation])


def test_operations_come_in_their_shares() -> None:
    for task, shares in sampler.TASKS.items():
        counts = Counter(draw("scenes-1", "train", task, i).operation for i in range(1200))
        for operation, share in shares:
            assert counts[operation] / 1200 == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("split", ["train", "val", "test", "ood-phrasing"])
def test_held_out_pairs_are_never_shown_outside_their_split(split: str) -> None:
    for task in TASKS:
        for index in range(150):
            item = draw("scenes-1", split, task, index)
            assert not {(o.colour, o.shape) for o in (*item.source.objects, *item.target.objects)} & HELD_OUT


def test_ood_combination_edits_a_held_out_pair() -> None:
    for task in TASKS:
        for index in range(60):
            item = draw("scenes-1", "ood-combination", task, index)
            edited = {i for e in item.edits for i in e.edited}
            objects = [o for s in (item.source, item.target) for o in s.objects if o.id in edited]
            assert any((o.colour, o.shape) in HELD_OUT for o in objects), item.instruction


def test_held_out_phrasings_are_only_in_their_split() -> None:
    phrasings = {s: {draw("scenes-1", s, t, i).phrasing for t in TASKS for i in range(80)} for s in SPLITS}
    assert all("*" in p for p in phrasings["ood-phrasing"])
    assert not any("*" in p for s in SPLITS if s != "ood-phrasing" for p in phrasings[s])


def test_no_photograph_is_in_two_splits() -> None:
    seen = {
        split: {draw("scenes-1", split, t, i).source.background.photo for t in TASKS for i in range(150)} - {""}
        for split in ("train", "val", "test")
    }
    assert all(seen[s] <= set(photographs.of_split(s)) and seen[s] for s in seen)
    assert not seen["train"] & seen["test"] and not seen["val"] & seen["test"] and not seen["train"] & seen["val"]


@pytest.mark.parametrize("task", TASKS)
def test_targets_are_placed_as_the_instruction_allows_and_masks_cover_every_change(task: str) -> None:
    for index in range(60):
        item = draw("scenes-1", "test", task, index)
        for edit in item.edits:
            for id in edit.placed:
                goal = item.target.get(id)
                assert misplaced(edit, item.source, goal, goal) is None
        sample = SUITE.tasks[task].sample("test", index, 64)
        assert sample.source is not None and sample.target is not None and sample.edit_mask is not None
        changed = (sample.source != sample.target).any(axis=2)
        assert changed.any() and not (changed & ~sample.edit_mask).any()
        assert sample.region is not None
        x, y = (int(v * 64) for v in sample.region.point)
        assert sample.edit_mask[y, x]
        x0, y0, x1, y1 = (round(v * 64) for v in sample.region.box)
        assert sample.edit_mask[y0:y1, x0:x1].sum() == sample.edit_mask.sum()


def test_about_a_fifth_of_scenes_has_a_covered_object() -> None:
    share = np.mean([draw("scenes-1", "train", t, i).occluded for t in TASKS for i in range(200)])
    assert 0.15 < share < 0.25


@pytest.mark.parametrize("resolution", [32, 64, 257, 1024])
def test_any_resolution_shows_the_same_scene(resolution: int) -> None:
    coarse = SUITE.tasks["insertion"].sample("test", 3, 32)
    fine = SUITE.tasks["insertion"].sample("test", 3, resolution)
    assert coarse.source_scene == fine.source_scene and coarse.instruction == fine.instruction
    assert fine.source is not None and fine.source.shape == (resolution, resolution, 3)
    means = [s.source.reshape(-1, 3).mean(axis=0) for s in (coarse, fine) if s.source is not None]
    assert np.abs(means[0] - means[1]).max() < 2.5


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_keeps_a_shapes_area_at_any_place_and_resolution(shape: str) -> None:
    areas = [
        coverage(Obj(0, shape, "red", "large", x, 0.5, 0.2), side)[1].sum() / side**2
        for side in (32, 100, 512) for x in (0.4, 0.4137)
    ]  # fmt: skip
    assert max(areas) / min(areas) < 1.04


def test_edges_are_anti_aliased() -> None:
    sample = SUITE.tasks["removal"].sample("test", 1, 64)
    scene = Scene.from_json(sample.source_scene or {})
    _, cover = coverage(scene.objects[0], 64)
    assert ((cover > 0.05) & (cover < 0.95)).any()


def test_a_scene_graph_survives_json() -> None:
    sample = SUITE.tasks["layout"].sample("test", 2, 64)
    assert sample.source is not None
    assert (render(Scene.from_json(sample.source_scene or {}), 64) == sample.source).all()


def test_lab_equals_scikit_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.abs(to_lab(image) - rgb2lab(image).transpose(2, 0, 1)).max() < 2e-3


def test_colours_are_told_apart() -> None:
    lab = {name: to_lab(np.array([[rgb]], dtype=np.uint8)).ravel() for name, rgb in COLOURS.items()}
    assert min(np.linalg.norm(lab[a] - lab[b]) for a in lab for b in lab if a < b) > 35


@pytest.mark.parametrize(("split", "resolution"), [("tset", 64), ("test", 16), ("test", 2048)])
def test_a_split_or_resolution_that_does_not_exist_is_refused(split: str, resolution: int) -> None:
    with pytest.raises(UsageError):
        SUITE.tasks["removal"].sample(split, 0, resolution)
