"""Placement: where, and how large, what is drawn anew is to be."""

from __future__ import annotations

import math

import pytest
import torch
from qk_model import placement
from qk_model.config import Preset
from qk_model.data import TrainingBatches, placements
from qk_model.model import QueryKontext
from qk_model.placement import Placing
from qk_tasks.scenes import SUITE
from qk_tasks.scenes.world import Scene

NOTHING = (0.0, 0.0, 0.0)


@pytest.mark.parametrize("task", ["insertion", "layout", "structural", "composition", "color_swap", "removal"])
def test_what_is_drawn_anew_has_a_placement_and_nothing_else_has(task: str) -> None:
    for index in range(40):
        sample = SUITE.tasks[task].sample("train", index, 32)
        assert sample.source_scene and sample.target_scene
        before, after = (Scene.from_json(s).objects for s in (sample.source_scene, sample.target_scene))
        found = placements(sample, 2)
        placed = [tuple(row.tolist()) for row in found if row[2] > 0]
        there = [(o.x, o.y, o.r) for o in after]
        assert all(any(p == pytest.approx(o) for o in there) for p in placed)
        moved = {(o.x, o.y, o.r) for o in after} - {(o.x, o.y, o.r) for o in before}
        assert all(any(p == pytest.approx(o) for p in placed) for o in moved)
        assert bool(placed) == (task not in ("color_swap", "removal")) or task == "composition"


def test_the_likeliest_placement_is_the_one_learned() -> None:
    wanted = torch.tensor([[[0.2, 0.7, 0.12], NOTHING], [[0.9, 0.1, 0.05], [0.5, 0.5, 0.3]]])
    place = torch.zeros(2, 2, 32, 32, requires_grad=True)
    radius = torch.zeros(2, 2, placement.RADII + 1, requires_grad=True)
    optimizer = torch.optim.Adam([place, radius], lr=1.0)
    for _ in range(30):
        optimizer.zero_grad()
        loss = Placing(place, radius).loss(wanted)
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    found = Placing(place, radius).best()
    there = wanted[..., 2] > 0
    assert torch.equal(found[..., 2] > 0, there)
    assert (found - wanted)[there][:, :2].abs().max() <= 0.5 / 32 + 1e-6
    assert (found[..., 2] / wanted[..., 2])[there].log().abs().max() < math.log(1.05)


def test_coordinates_are_distances_in_radii_from_the_nearest_object() -> None:
    where = torch.tensor([[[0.25, 0.5, 0.125], [0.75, 0.5, 0.25]]])
    found = placement.coordinates(where, 16, 16)[0]
    assert found.shape[0] == placement.channels(2)
    assert found[:2, 8, 4].tolist() == pytest.approx([0.25, 0.25])  # half a position right and down, in radii of two
    assert found[-2:, 8, 4].tolist() == [1, 0]
    assert found[:2, 8, 14].tolist() == pytest.approx([0.625, 0.125])
    assert found[-2:, 8, 14].tolist() == [0, 1]
    assert not found[:, 0, 0].any()  # more than two radii from either


def test_nothing_placed_is_all_zeros() -> None:
    nothing = torch.zeros(1, 2, 3)
    assert not placement.coordinates(nothing, 8, 8).any()
    assert not placement.covered(nothing, 8, 8).any()


def test_every_pixel_of_an_object_is_covered() -> None:
    for index in range(20):
        sample = SUITE.tasks["insertion"].sample("train", index, 64)
        assert sample.edit_mask is not None
        covered = placement.covered(placements(sample, 2)[None], 16, 16)[0, 0].bool().numpy()
        changed = sample.edit_mask.reshape(16, 4, 16, 4).any(axis=(1, 3))
        assert not (changed & ~covered).any()
        assert covered.sum() <= changed.sum() + 24


def test_the_model_places_what_a_batch_does_not(lean: Preset) -> None:
    model = QueryKontext(lean.model).eval()
    stage = lean.training.stages["3"]
    data = TrainingBatches(lean.model, stage, "3", 0, model.tokenizer)
    batch = next(b for b in (data[step] for step in range(20)) if b.mode == "edit")
    with torch.no_grad():
        given = model.look(batch, model.understand(batch))
        own = model.look(batch._replace(placements=None), model.understand(batch))
    assert given.placements is batch.placements
    assert own.placing is not None and own.placements is not None
    assert torch.equal(own.placements, own.placing.best())
    assert own.gate is not None
    assert bool((own.gate >= placement.covered(own.placements, *own.gate.shape[2:])).all())
