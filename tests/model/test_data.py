"""Training batches: pure functions of the step, whoever makes them."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections import Counter
from typing import Any

import pytest
import torch
from qk_model.config import Preset, load_preset
from qk_model.data import (
    TrainingBatches,
    answer,
    batches,
    draw_sample,
    micro_batches,
    region_query,
    to_images,
    to_pixels,
)
from qk_model.kontext import FORMS
from qk_model.model import Batch
from qk_model.tokenizer import build_tokenizer, encode, load_tokenizer
from qk_tasks.scenes import SUITE


def test_a_batch_is_a_function_of_its_step(lean: Preset) -> None:
    assert _equal(_dataset(lean, "3")[3], _dataset(lean, "3")[3])
    assert not _equal(_dataset(lean, "3")[3], _dataset(lean, "3")[2])


def test_worker_processes_make_the_same_batches_in_order(lean: Preset) -> None:
    dataset = _dataset(lean, "pretrain-vlm")
    for step, batch in enumerate(batches(dataset, 1, 2), start=1):
        assert _equal(batch, dataset[step])


def test_a_process_that_may_use_one_core_gets_one_worker_and_no_warning(lean: Preset) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert _equal(next(batches(_dataset(lean, "3"), 3, 2)), _dataset(lean, "3")[3])
    finally:
        os.sched_setaffinity(0, allowed)


def test_processes_share_a_batch_without_changing_it(lean: Preset) -> None:
    whole = _dataset(lean, "2")[1]
    shares = [_dataset(lean, "2", rank, 2)[1] for rank in range(2)]
    assert whole.target is not None
    for rank, share in enumerate(shares):
        assert share.target is not None
        assert torch.equal(share.target, whole.target[rank::2])


def test_modes_come_in_their_shares(lean: Preset) -> None:
    stage = dataclasses.replace(lean.training.stages["3"], batch_size=1, query_ratio=0.6, steps=10_000)
    dataset = TrainingBatches(lean.model, stage, "3", 0, build_tokenizer())
    modes = Counter(dataset[step].mode for step in range(300))
    assert 0.5 < modes["edit"] / 300 < 0.7
    assert modes["generate"] > modes["compose"] > 20
    assert not modes["reconstruct"]


def test_training_never_sees_the_other_splits(lean: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for task in SUITE.tasks.values():
        original = task.sample
        monkeypatch.setattr(
            task, "sample", lambda split, *rest, _sample=original: (seen.append(split), _sample(split, *rest))[1]
        )
    for name in lean.training.schedule:
        _dataset(lean, name)[0]
    assert set(seen) == {"train"}


def test_every_instruction_and_caption_of_the_suite_is_in_the_vocabulary() -> None:
    tokenizer = build_tokenizer()
    for task in SUITE.tasks.values():
        for index in range(60):
            sample = task.sample("train", index, 32)
            for text in (sample.instruction, sample.source_caption, sample.target_caption, answer(sample)):
                assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], text


def test_every_word_of_drawn_faces_is_in_the_vocabulary_of_the_preset_that_knows_them() -> None:
    preset = load_preset("micro-faces")
    tokenizer, limits = load_tokenizer(preset.model.tokenizer), preset.model.max_text_tokens
    assert preset.model.vlm.arguments["vocab_size"] == len(tokenizer)
    assert tokenizer.convert_ids_to_tokens(range(134)) == build_tokenizer().convert_ids_to_tokens(range(134))
    faces = [name for name in preset.training.stages["3"].tasks if name.startswith("drawn-faces/")]
    assert len(faces) == 6
    for name in faces:
        for index in range(60):
            sample = draw_sample(name, index, 64)
            assert sample.split == "train"
            for text, limit in (
                (sample.instruction, limits["edit"]), (sample.target_caption, limits["generate"]), (answer(sample), 46)
            ):  # fmt: skip
                ids = tokenizer(text)["input_ids"]
                assert tokenizer.unk_token_id not in ids and len(ids) <= limit, text


def test_the_answer_says_what_changes_of_a_face() -> None:
    said = {
        name: [answer(draw_sample(f"drawn-faces/{name}", i, 64)) for i in range(12)] for name in ("glasses", "smile")
    }
    assert all(text.startswith("glasses ") and " becomes " in text for text in said["glasses"])
    assert {*said["smile"]} == {"smile nothing becomes smile", "smile smile becomes nothing"}


def test_faces_are_composed_with_nothing_and_edited_without_a_place() -> None:
    preset = load_preset("micro-faces")
    tasks = {"drawn-faces/hat": 1.0, "removal": 1e-9}
    stage = dataclasses.replace(
        preset.training.stages["3"], tasks=tasks, batch_size=4, query_ratio=0.0, generation={"compose": 1.0}
    )
    tokenizer = load_tokenizer(preset.model.tokenizer)
    assert TrainingBatches(preset.model, stage, "3", 0, tokenizer)[0].mode == "compose"
    edits = TrainingBatches(preset.model, dataclasses.replace(stage, query_ratio=1.0), "3", 0, tokenizer)[0]
    assert edits.placements is not None and not edits.placements.any()


def test_no_instruction_of_the_edit_tasks_is_cut(lean: Preset) -> None:
    tokenizer, limits = build_tokenizer(), lean.model.max_text_tokens
    for split in ("train", "test", "ood-phrasing"):
        for task in SUITE.tasks.values():
            for index in range(40):
                sample = task.sample(split, index, 32)
                assert len(tokenizer(sample.instruction)["input_ids"]) <= limits["edit"]
                assert len(tokenizer(sample.target_caption)["input_ids"]) <= limits["generate"]


def test_the_answer_says_what_changes() -> None:
    for index in range(40):
        sample = SUITE.tasks["removal"].sample("train", index, 32)
        assert answer(sample).endswith("becomes nothing")
        assert answer(SUITE.tasks["insertion"].sample("train", index, 32)).startswith("nothing becomes")


def test_texts_are_padded_behind_their_words() -> None:
    ids, mask = encode(build_tokenizer(), ["remove the red ring", "remove"], 12, pad_to=8)
    assert ids.shape == mask.shape == (2, 8)
    assert mask.sum(dim=1).tolist() == [4, 1]


def test_pixels_survive_the_way_there_and_back() -> None:
    images = [SUITE.tasks["removal"].sample("val", index, 32).source for index in range(3)]
    assert all((a == b).all() for a, b in zip(images, to_images(to_pixels(images)), strict=True))  # type: ignore[arg-type]


def test_region_queries_carry_the_form_asked_for() -> None:
    region = SUITE.tasks["removal"].sample("val", 0, 32).region
    query = region_query([("box", region), ("mask", region), ("point", region), ("none", region), ("box", None)], 4)
    assert [FORMS[form] for form in query.form] == ["box", "mask", "point", "none", "none"]
    assert region is not None
    assert query.place[0].tolist() == pytest.approx(region.box)
    assert float(query.mask[1].mean()) == pytest.approx(float(region.mask.mean()), abs=1e-6)


def test_micro_batches_are_the_batch(lean: Preset) -> None:
    batch = _dataset(lean, "pretrain-vlm")[0]
    pieces = list(micro_batches(batch, 3))
    assert [len(piece.input_ids) for piece in pieces] == [3, 1]
    assert torch.equal(torch.cat([piece.images[0] for piece in pieces]), batch.images[0])
    assert torch.equal(torch.cat([piece.region.form for piece in pieces]), batch.region.form)


def _dataset(preset: Preset, name: str, rank: int = 0, world: int = 1) -> TrainingBatches:
    return TrainingBatches(preset.model, preset.training.stages[name], name, 0, build_tokenizer(), rank, world)


def _equal(a: Batch, b: Batch) -> bool:
    def same(x: Any, y: Any) -> bool:
        if isinstance(x, torch.Tensor):
            return isinstance(y, torch.Tensor) and torch.equal(x, y)
        if isinstance(x, tuple):
            return len(x) == len(y) and all(same(i, j) for i, j in zip(x, y, strict=True))
        return bool(x == y)

    return all(same(x, y) for x, y in zip(a, b, strict=True))
