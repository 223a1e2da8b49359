"""Drawn faces: the answer passes, the question does not, people stay apart, and the verifier says what is wrong."""

from __future__ import annotations

import io
import json
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from qk_tasks.faces.drawing import PARTS, draw
from qk_tasks.faces.edits import OPERATIONS, draw_item
from qk_tasks.faces.metrics import DrawnIdentity
from qk_tasks.faces.person import CELL_FEATURES, LEVELS, SPLIT_SHARES, Face, draw_look, draw_person, split_of
from qk_tasks.faces.suite import SUITE
from qk_tasks.faces.verifier import identity_distance

from qk_bench.errors import UsageError
from qk_bench.interfaces import Scored
from qk_bench.records import Sample
from qk_bench.run.plan import sample_digest

Pixels = NDArray[np.uint8]
TASKS = list(SUITE.tasks)


def sample(task: str, index: int = 0, resolution: int = 64, split: str = "test") -> Sample:
    return SUITE.tasks[task].sample(split, index, resolution)


def pixels(image: Pixels | None) -> Pixels:
    assert image is not None
    return image


def jpeg(image: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


def half(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("task", TASKS)
def test_answer_passes_and_source_does_not(task: str) -> None:
    for index in range(3):
        one = sample(task, index)
        assert SUITE.tasks[task].verify(one, pixels(one.target)).success
        verdict = SUITE.tasks[task].verify(one, pixels(one.source))
        assert not verdict.success and verdict.reason.startswith("not done"), verdict
        changed = (pixels(one.source) != pixels(one.target)).any(axis=2)
        assert one.edit_mask is not None and not (changed & ~one.edit_mask).any()


@pytest.mark.parametrize("task", TASKS)
def test_compressed_and_resampled_answers_pass_and_half_an_edit_does_not(task: str) -> None:
    one = sample(task, 1)
    target = pixels(one.target)
    for image in (jpeg(target), half(target)):
        verdict = SUITE.tasks[task].verify(one, image)
        assert verdict.success, verdict
    ghost = (pixels(one.source) * 0.6 + target * 0.4).astype(np.uint8)
    assert not SUITE.tasks[task].verify(one, ghost).success


def test_another_person_in_the_right_look_fails_by_name() -> None:
    one = sample("hair_colour")
    assert one.target_scene is not None
    face = Face.from_json(one.target_scene)
    value = face.person.feature("eye_spacing")
    other = face._replace(person=face.person.with_feature("eye_spacing", value + (0.5 if value < 0.5 else -0.5)))
    verdict = SUITE.tasks["hair_colour"].verify(one, draw(other, 64).image)
    assert not verdict.success and verdict.reason == "another person: eye spacing is off"


def test_another_colour_fails_by_name() -> None:
    one = sample("background")
    assert one.target_scene is not None and one.source_scene is not None
    face = Face.from_json(one.target_scene)
    taken = {face.look.background, one.source_scene["look"]["background"]}
    other = next(name for name in ("orange", "blue", "green") if name not in taken)
    verdict = SUITE.tasks["background"].verify(
        one, draw(face._replace(look=face.look._replace(background=other)), 64).image
    )
    assert verdict.reason == f"looks more like {other} background"


def test_a_change_elsewhere_fails() -> None:
    one = sample("hat", 1)
    spoiled = pixels(one.target).copy()
    spoiled[44:60, 2:14] = (255, 0, 255)
    assert SUITE.tasks["hat"].verify(one, spoiled).reason.startswith("changed elsewhere")


def test_a_tint_of_the_whole_picture_fails() -> None:
    one = sample("glasses", 1)
    tinted = np.clip(pixels(one.target).astype(float) * (1.12, 1.0, 0.9), 0, 255).astype(np.uint8)
    assert not SUITE.tasks["glasses"].verify(one, tinted).success


def test_identity_is_judged_by_the_drawings_own_parameters() -> None:
    rng = Random(5)
    looks = [draw_look(rng)._replace(glasses=None, hat=None) for _ in range(2)]
    person, stranger = draw_person(rng, "test"), draw_person(rng, "test")
    faces = [Face(person, look, 0.5, 0.47, 1.0) for look in looks]
    wrong, likeness = identity_distance(faces[0], draw(faces[0], 64).image)
    assert (wrong, likeness) == ("", 1.0)
    wrong, likeness = identity_distance(faces[0], draw(faces[0]._replace(person=stranger), 64).image)
    assert wrong and likeness < 0.9


def test_identity_metric_counts_the_features_that_are_kept() -> None:
    one = sample("smile")
    stranger = sample("smile", 4)
    metric, task = DrawnIdentity(), SUITE.tasks["smile"]
    images = [pixels(one.target), pixels(stranger.target)]
    kept, lost = (row[0] for row in metric.compute([Scored(one, image, 0, task, image) for image in images]))
    assert kept.value == 1 and lost.value is not None and lost.value < 0.9 and lost.reason.endswith("is off")
    other = Scored(one.model_copy(update={"suite": "photo"}), images[0], 0, task, images[0])
    assert metric.compute([other])[0][0].reason == "not a sample of drawn-faces"


def test_splits_share_no_person_and_no_cell_of_features() -> None:
    cells: dict[str, set[tuple[int, ...]]] = {}
    for split in SPLIT_SHARES:
        for number in range(60):
            person = draw_person(Random(f"{split}{number}"), split)
            assert split_of(person) == split
            cells.setdefault(split, set()).add(
                tuple(min(LEVELS - 1, int(person.feature(name) * LEVELS)) for name in CELL_FEATURES)
            )
    assert not cells["train"] & cells["test"] and not cells["train"] & cells["val"] and not cells["val"] & cells["test"]


def test_one_person_is_one_cluster_in_every_task() -> None:
    items = [draw_item("drawn-faces-1", "test", task, index) for task in TASKS for index in (0, 1)]
    assert len({item.source.person for item in items}) == 1
    assert all(item.source.person == item.target.person for item in items)
    assert sample("hat", 0).cluster == sample("smile", 1).cluster != sample("smile", 2).cluster


def test_samples_are_pure_functions() -> None:
    first = [sample_digest(sample("glasses", index)) for index in (3, 4)]
    assert first == [sample_digest(sample("glasses", index)) for index in (4, 3)][::-1]


def test_items_of_this_version_never_change() -> None:
    """Raise `VERSION` when this fails for a good reason: results of two contents must not share a name."""
    import hashlib

    items = [draw_item("drawn-faces-1", split, task, 7) for split in SPLIT_SHARES for task in OPERATIONS]
    told = [[item.source.to_json(), item.target.to_json(), item.operation, item.instruction] for item in items]
    assert hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16] == "ceccead4530f3981"


def test_faces_survive_a_trip_through_json_and_parts_cover_each_pixel_once() -> None:
    item = draw_item("drawn-faces-1", "train", "glasses", 2)
    assert Face.from_json(json.loads(json.dumps(item.target.to_json()))) == item.target
    picture = draw(item.target, 48)
    assert set(picture.parts) == set(PARTS)
    assert np.abs(np.sum(list(picture.parts.values()), axis=0) - 1).max() < 1e-4


def test_too_small_a_picture_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="drawn-faces is drawn at 48 to 1024 pixels a side, not 32"):
        sample("hat", resolution=32)
